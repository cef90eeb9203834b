//! Keep alive: one and a half times, measured within a tenth.

use crate::prelude::*;

/// Keep alive of the tests, seconds. Long enough that a tenth of it is more than a busy machine's hiccup.
const SECONDS: u16 = 4;

/// Time is measured on machines that do other things too: a second try, where the first was out of time.
fn twice(scene: impl Fn()) {
    if std::panic::catch_unwind(std::panic::AssertUnwindSafe(&scene)).is_err() {
        scene();
    }
}

fn time_until_closed(client: &mut Client, since: Instant) -> f64 {
    let ending = client.ending_within(Duration::from_secs(15));
    assert!(ending.closed, "still open after 15 s: {ending:?}");
    assert!(matches!(ending.reason, None | Some(0x8D)), "{ending:?}");
    since.elapsed().as_secs_f64()
}

fn assert_one_and_a_half(seconds: f64) {
    let due = 1.5 * f64::from(SECONDS);
    assert!((due * 0.9..=due * 1.1).contains(&seconds), "closed after {seconds:.2} s, due {due} s");
}

/// A silent client is let go after one and a half times.
pub fn silence_ends_the_connection_at_one_and_a_half_times(v: Version) {
    twice(|| {
        let since = Instant::now();
        let mut client = Client::connect(&Connect::new(v, unique_id()).keep_alive(SECONDS));
        assert_one_and_a_half(time_until_closed(&mut client, since));
    });
}

/// Any packet of the client starts the time anew, not PINGREQ alone.
pub fn every_packet_of_the_client_starts_the_time_anew(v: Version) {
    twice(|| {
        let topic = unique_topic();
        let mut client = Client::connect(&Connect::new(v, unique_id()).keep_alive(SECONDS));
        for bytes in [
            publish(topic.as_str(), "x").bytes(v),
            words::acknowledge(kind::PUBACK, 9),
            words::PINGREQ.to_vec(),
        ] {
            std::thread::sleep(Duration::from_millis(4500));
            client.say(bytes);
        }
        let since = Instant::now();
        client.hear_kind(kind::PINGRESP);
        assert_one_and_a_half(time_until_closed(&mut client, since));
    });
}

/// What the broker sends does not count.
pub fn messages_to_the_client_do_not_keep_it_alive(v: Version) {
    twice(|| {
        let topic = unique_topic();
        let mut client = Client::connect(&Connect::new(v, unique_id()).keep_alive(SECONDS));
        client.must_subscribe(&topic, 0);
        let since = Instant::now();
        let mut publisher = Client::fresh(v);
        while since.elapsed() < Duration::from_secs(5) {
            publisher.publish(&publish(topic.as_str(), "tick"));
            client.expect_message("tick");
            std::thread::sleep(Duration::from_millis(400));
        }
        assert_one_and_a_half(time_until_closed(&mut client, since));
    });
}

/// Keep alive 0 turns it off.
pub fn keep_alive_zero_never_ends_the_connection(v: Version) {
    let mut client = Client::connect(&Connect::new(v, unique_id()).keep_alive(0));
    client.expect_nothing(Duration::from_secs(4));
    client.expect_alive();
}

/// The end by keep alive is a failure of the network: the will is published.
pub fn a_client_lost_to_keep_alive_leaves_its_will(v: Version) {
    let topic = unique_topic();
    let mut witness = Client::fresh(v);
    witness.must_subscribe(&topic, 0);
    let connect = Connect::new(v, unique_id()).keep_alive(1).will(Will::new(topic, "lost"));
    let _client = Client::connect(&connect);
    // When it is published is another test's affair.
    let Heard::Packet(will) = witness.listen(Duration::from_secs(15)) else {
        panic!("the will was not published")
    };
    assert_eq!(will.publish(v).text(), "lost");
}
