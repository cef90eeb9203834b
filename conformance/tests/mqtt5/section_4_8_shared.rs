//! 4.8.2 Shared subscriptions.
use super::*;
use conformance::client;

fn available() -> bool {
    let client = Client::fresh(V5);
    let greeting = client.greeting.as_ref().expect("the client is connected");
    property::number(&greeting.properties, property::SHARED_AVAILABLE) != Some(0)
}

fn shared(topic: &str) -> String {
    format!("$share/{}/{topic}", unique_id())
}

/// What each has heard: as many as are due in all, and then until all are quiet.
fn heard(clients: &mut [Client], due: usize) -> Vec<Vec<Publish>> {
    let mut found = vec![Vec::new(); clients.len()];
    let until = Instant::now() + client::PATIENCE;
    while found.iter().map(Vec::len).sum::<usize>() < due && Instant::now() < until {
        listen_in_turn(clients, &mut found, Duration::from_millis(20));
    }
    while listen_in_turn(clients, &mut found, Duration::from_millis(250)) {}
    found
}

/// Whether anybody heard anything.
fn listen_in_turn(clients: &mut [Client], found: &mut [Vec<Publish>], long: Duration) -> bool {
    let mut any = false;
    for (client, found) in clients.iter_mut().zip(found) {
        while let Heard::Packet(packet) = client.listen(long) {
            let message = packet.publish(V5);
            if message.qos == 1 {
                client.say(words::acknowledge(kind::PUBACK, message.id));
            }
            found.push(message);
            any = true;
        }
    }
    any
}

fn members(filter: &str, qos: u8, count: usize) -> Vec<Client> {
    let mut members: Vec<Client> = (0..count).map(|_| Client::fresh(V5)).collect();
    members.iter_mut().for_each(|member| member.must_subscribe(filter, qos));
    members
}

/// 4.8.2 Each message goes to one member of the group.
#[test]
fn each_message_goes_to_one_member() {
    if !available() {
        return;
    }
    for qos in [0, 1] {
        let topic = unique_topic();
        let mut members = members(&shared(&topic), qos, 3);
        let mut publisher = Client::fresh(V5);
        for number in 1..=12 {
            publisher.publish(&publish(topic.as_str(), number.to_string()).qos(qos, number));
        }
        let heard = heard(&mut members, 12);
        let mut all: Vec<String> = heard.iter().flatten().map(Publish::text).collect();
        all.sort_by_key(|it| it.parse::<u16>().unwrap_or(0));
        let expected: Vec<String> = (1..=12).map(|it| it.to_string()).collect();
        assert_eq!(all, expected, "QoS {qos}");
        assert!(heard.iter().filter(|it| !it.is_empty()).count() > 1, "one member got everything");
    }
}

/// 4.8.2 Groups are apart, and so are shared and ordinary subscriptions, also of one client.
#[test]
fn groups_and_ordinary_subscriptions_are_apart() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let mut clients = [members(&shared(&topic), 0, 1), members(&shared(&topic), 0, 1), members(&topic, 0, 1)]
        .concat_clients();
    Client::fresh(V5).publish(&publish(topic.as_str(), "m"));
    assert_eq!(heard(&mut clients, 3).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    let mut both = members(&topic, 0, 1);
    both[0].must_subscribe(&shared(&topic), 0);
    Client::fresh(V5).publish(&publish(topic.as_str(), "m"));
    assert_eq!(heard(&mut both, 2)[0].len(), 2);
}

trait ConcatClients {
    fn concat_clients(self) -> Vec<Client>;
}

impl<const N: usize> ConcatClients for [Vec<Client>; N] {
    fn concat_clients(self) -> Vec<Client> {
        self.into_iter().flatten().collect()
    }
}

/// 4.8.2 A different filter under the same share name is a different subscription.
#[test]
fn the_filter_is_part_of_the_group() {
    if !available() {
        return;
    }
    let (base, name) = (unique_topic(), unique_id());
    let mut clients = [
        members(&format!("$share/{name}/{base}/+"), 0, 1),
        members(&format!("$share/{name}/{base}/a"), 0, 1),
    ]
    .concat_clients();
    Client::fresh(V5).publish(&publish(format!("{base}/a"), "m"));
    assert_eq!(heard(&mut clients, 2).iter().map(Vec::len).collect::<Vec<_>>(), [1, 1]);
}

/// [MQTT-4.8.2-3] Each member's granted QoS is respected.
#[test]
fn each_members_qos_is_respected() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let mut clients = [members(&filter, 0, 1), members(&filter, 1, 1)].concat_clients();
    let mut publisher = Client::fresh(V5);
    for id in 1..=8 {
        publisher.publish(&publish(topic.as_str(), "m").qos(2, id));
    }
    let heard = heard(&mut clients, 8);
    assert_eq!(heard.iter().map(Vec::len).sum::<usize>(), 8);
    for (granted, messages) in heard.iter().enumerate() {
        assert!(messages.iter().all(|it| usize::from(it.qos) == granted), "granted {granted}: {messages:?}");
    }
}

/// 4.8.2 No retained messages at subscribing.
#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    Client::fresh(V5).publish(&publish(topic.as_str(), "kept").retained());
    let mut member = members(&shared(&topic), 0, 1).remove(0);
    member.expect_quiet();
    Client::fresh(V5).publish(&publish(topic.as_str(), "live"));
    member.expect_message("live");
}

/// 4.8.2 A member that unsubscribed or left is no member.
#[test]
fn former_members_get_nothing() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let mut clients = members(&filter, 0, 3);
    clients[0].unsubscribe(&filter);
    clients.remove(1).leave();
    let mut publisher = Client::fresh(V5);
    (0..6).for_each(|_| publisher.publish(&publish(topic.as_str(), "m")));
    assert_eq!(heard(&mut clients, 6).iter().map(Vec::len).collect::<Vec<_>>(), [0, 6]);
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2] (`$share` alone is nothing in particular, says the standard.) Filters that are no shared subscription are refused, or end the connection.
#[test]
fn shared_filters_of_wrong_form_are_refused() {
    let mut rows = Rows::default();
    for filter in [
        "$share/",
        "$share/g",
        "$share/g/",
        "$share//a",
        "$share/g+/a",
        "$share/+/a",
        "$share/#/a",
        "$share/g#/a",
        "$share/g/a#",
    ] {
        let mut client = Client::fresh(V5);
        client.say(words::subscribe(V5, 3, &[(filter, 0)]));
        let (refused, said) = match client.listen(client::PATIENCE) {
            Heard::Packet(it) if it.kind == kind::SUBACK => {
                (it.body.last().is_some_and(|code| *code >= 0x80), it)
            }
            Heard::Packet(it) => (it.kind == kind::DISCONNECT, it),
            Heard::Closed => continue,
            Heard::Nothing => (false, Packet { kind: 0, flags: 0, body: Vec::new() }),
        };
        rows.check(filter, refused, said);
    }
    rows.check("all rows were played", true, "");
    rows.finish();
}

/// [MQTT-4.8.2-4] A message of QoS 2 under way to a member is completed to that member when it comes back.
#[test]
fn a_delivery_under_way_is_completed_to_the_same_member() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let connect = Connect::lasting(V5, unique_id());
    let mut first = Client::connect(&connect);
    first.must_subscribe(&filter, 2);
    Client::fresh(V5).publish(&publish(topic.as_str(), "under way").qos(2, 1));
    let message = first.receive();
    let mut second = members(&filter, 2, 1).remove(0);
    first.vanish();
    second.expect_quiet();
    let mut first = Client::connect(&connect);
    assert_eq!(first.receive(), message.clone().again());
    first.say(words::acknowledge(kind::PUBREC, message.id));
    first.expect_ack(kind::PUBREL, message.id);
    second.expect_quiet();
}

/// [MQTT-4.8.2-5] If the member's session ends instead, nobody else gets that message of QoS 2.
#[test]
fn a_qos_2_message_of_an_ended_session_goes_to_nobody_else() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let mut first = members(&filter, 2, 1).remove(0);
    Client::fresh(V5).publish(&publish(topic.as_str(), "under way").qos(2, 1));
    assert_eq!(first.receive().text(), "under way");
    let mut second = members(&filter, 2, 1).remove(0);
    first.vanish();
    second.expect_quiet();
}

/// [MQTT-4.8.2-6] A message that a member refused goes to nobody else.
#[test]
fn a_refused_message_goes_to_nobody_else() {
    if !available() {
        return;
    }
    for (qos, answer) in [(1, kind::PUBACK), (2, kind::PUBREC)] {
        let topic = unique_topic();
        let filter = shared(&topic);
        let mut first = members(&filter, 2, 1).remove(0);
        Client::fresh(V5).publish(&publish(topic.as_str(), "unwanted").qos(qos, 1));
        let id = first.receive().id;
        let mut second = members(&filter, 2, 1).remove(0);
        first.say(words::acknowledge_with(answer, id, 0x87));
        first.expect_quiet();
        second.expect_quiet();
    }
}

/// 4.8.2 A message for a group is not lost as long as one member is there.
#[test]
fn a_present_member_is_served_while_another_is_away() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let away = Connect::lasting(V5, unique_id());
    let mut client = Client::connect(&away);
    client.must_subscribe(&filter, 1);
    client.leave();
    let mut present = members(&filter, 1, 1);
    let mut publisher = Client::fresh(V5);
    (1..=6).for_each(|id| publisher.publish(&publish(topic.as_str(), "m").qos(1, id)));
    let here = heard(&mut present, 1)[0].len();
    let there = heard(&mut [Client::connect(&away)], 6 - here)[0].len();
    assert_eq!(here + there, 6, "{here} to the present one, {there} to the other");
}

/// 4.8.2 Members are served in turn: none gets much more than its share.
#[test]
fn members_are_served_in_turn() {
    if !available() {
        return;
    }
    for qos in [0, 1] {
        let topic = unique_topic();
        let mut members = members(&shared(&topic), qos, 3);
        let mut publisher = Client::fresh(V5);
        for id in 1..=30 {
            publisher.publish(&publish(topic.as_str(), "m").qos(qos, id));
        }
        let shares: Vec<usize> = heard(&mut members, 30).iter().map(Vec::len).collect();
        assert!(shares.iter().all(|it| (8..=12).contains(it)), "QoS {qos}: {shares:?}");
    }
}

/// Publishes six messages, of which the first of two members takes its share and acknowledges nothing.
fn half_is_under_way(topic: &str, qos: u8, first: &Connect) -> (Client, Vec<Client>, Vec<String>) {
    let filter = shared(topic);
    let mut client = Client::connect(first);
    client.must_subscribe(&filter, 2);
    let mut others = members(&filter, 1, 1);
    let mut publisher = Client::fresh(V5);
    let all: Vec<String> = (1..=6).map(|it| it.to_string()).collect();
    for (id, text) in (1..).zip(&all) {
        publisher.publish(&publish(topic, text).qos(qos, id));
    }
    let here = heard(&mut others, 3).remove(0);
    let first: Vec<String> = (here.len()..6).map(|_| client.receive().text()).collect();
    let second = here.iter().map(Publish::text).collect::<Vec<_>>();
    let mut both = [first, second.clone()].concat();
    both.sort();
    assert_eq!(both, all);
    (client, others, second)
}

/// 4.8.2 What a member had and did not acknowledge at QoS 1 goes to another when its session ends: nothing is lost by a death.
#[test]
fn what_a_dead_member_did_not_acknowledge_goes_to_another() {
    if !available() {
        return;
    }
    let (client, mut others, mut seen) =
        half_is_under_way(&unique_topic(), 1, &Connect::new(V5, unique_id()));
    client.vanish();
    seen.extend(heard(&mut others, 6 - seen.len()).remove(0).iter().map(Publish::text));
    seen.sort();
    assert_eq!(seen, ["1", "2", "3", "4", "5", "6"]);
}

/// 4.8.2 The same when a session that outlived its connection expires.
#[test]
fn what_a_member_that_stays_away_did_not_acknowledge_goes_to_another() {
    if !available() {
        return;
    }
    let connect = Connect::new(V5, unique_id()).with(property::session_expiry(2u32));
    let (client, mut others, mut seen) = half_is_under_way(&unique_topic(), 1, &connect);
    client.vanish();
    seen.extend(heard(&mut others, 6 - seen.len()).remove(0).iter().map(Publish::text));
    seen.sort();
    assert_eq!(seen, ["1", "2", "3", "4", "5", "6"]);
}

/// 4.8.2 What waited behind a member's window was not sent: it goes to another, QoS 2 included.
#[test]
fn what_waited_for_a_dead_member_goes_to_another() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let narrow = Connect::new(V5, unique_id()).with(property::receive_maximum(1u16));
    let mut first = Client::connect(&narrow);
    first.must_subscribe(&filter, 2);
    let mut publisher = Client::fresh(V5);
    for id in 1..=4 {
        publisher.publish(&publish(topic.as_str(), id.to_string()).qos(2, id));
    }
    assert_eq!(first.receive().text(), "1");
    first.expect_quiet();
    let mut second = Client::fresh(V5);
    second.must_subscribe(&filter, 2);
    first.vanish();
    for text in ["2", "3", "4"] {
        second.expect_message(text);
    }
    second.expect_quiet();
}

/// 4.8.2 With all members away their messages wait for one of them.
#[test]
fn messages_wait_for_a_group_that_is_away() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let away = [Connect::lasting(V5, unique_id()), Connect::lasting(V5, unique_id())];
    for connect in &away {
        let mut client = Client::connect(connect);
        client.must_subscribe(&filter, 1);
        client.leave();
    }
    let mut publisher = Client::fresh(V5);
    (1..=6).for_each(|id| publisher.publish(&publish(topic.as_str(), id.to_string()).qos(1, id)));
    let mut back: Vec<Client> = away.iter().map(Client::connect).collect();
    let mut all: Vec<String> = heard(&mut back, 6).iter().flatten().map(Publish::text).collect();
    all.sort();
    assert_eq!(all, ["1", "2", "3", "4", "5", "6"]);
}

/// 4.8.2 Subscription identifier and Retain As Published are those of the member.
#[test]
fn options_and_identifier_of_a_member_hold() {
    if !available() {
        return;
    }
    let topic = unique_topic();
    let filter = shared(&topic);
    let mut member = Client::fresh(V5);
    assert_eq!(member.subscribe_with(&[property::subscription_id(7u32)], &filter, 0x09), 1);
    Client::fresh(V5).publish(&publish(topic.as_str(), "m").qos(2, 1).retained());
    let message = member.expect_message("m");
    assert_eq!((message.qos, message.retain), (1, true));
    assert_eq!(property::numbers(&message.properties, property::SUBSCRIPTION_ID), [7]);
}
