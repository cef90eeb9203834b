//! Other bridges while the broker runs (SIGHUP).

use quoll_mqtt::packet::{Packet, Publish};
use quoll_mqtt::{Delivery, QoS};

use crate::common::eventually;
use crate::fake::{Fake, Manners};
use crate::subject::{Quoll, bridges, configuration, host_name, message, plain_client, runtime};

fn subscribed(heard: &[Packet], filter: &str) -> bool {
    let is_it =
        |it: &Packet| matches!(it, Packet::Subscribe(it) if it.subscriptions[0].filter.as_str() == filter);
    heard.iter().any(is_it)
}

async fn sessions(quoll: &Quoll) -> Vec<String> {
    let mut all: Vec<String> =
        quoll.server.handle.sessions().await.iter().map(|it| it.session.client_id.to_string()).collect();
    all.sort();
    all
}

#[test]
fn bridges_come_go_and_change_while_the_broker_runs() {
    let runtime = runtime();
    let fars: Vec<Fake> = (0..4).map(|_| Fake::start(Manners::default())).collect();
    let block = |name: &str, far: &Fake, more: &str| {
        format!("connection {name}\naddress 127.0.0.1:{}\nrestart_timeout 1\n{more}", far.port)
    };
    runtime.block_on(async {
        let [gone, stays, lazy, new] = &fars[..] else { panic!() };
        let before = block("gone", gone, "topic a in\n")
            + &block("stays", stays, "topic a in\n")
            + &block("lazy", lazy, "topic a in\n");
        let quoll = Quoll::start(&before).await;
        for far in [gone, stays, lazy] {
            far.connection(0, 3);
        }
        let after = block("stays", stays, "topic a in\n")
            + &block("lazy", lazy, "topic b in\n")
            + &block("new", new, "topic a in\n");
        quoll.bridges.replace(bridges(&configuration(&after))).await;
        new.connection(0, 3);
        let id = |name: &str| format!("local.{}.{name}", host_name());
        eventually("the gone one's session is gone", async || {
            sessions(&quoll).await == [id("lazy"), id("new"), id("stays")]
        })
        .await;
        assert_eq!((stays.heard().len(), lazy.heard().len()), (1, 1), "neither was touched");
        lazy.cut();
        assert!(subscribed(&lazy.connection(1, 3), "b"), "{:?}", lazy.heard());
        assert_eq!((gone.heard().len(), stays.heard().len()), (1, 1));
        // At once.
        let after = block("stays", stays, "topic c in\nbridge_reload_type immediate\n");
        quoll.bridges.replace(bridges(&configuration(&after))).await;
        assert!(subscribed(&stays.connection(1, 3), "c"), "{:?}", stays.heard());
        eventually("one is left", async || sessions(&quoll).await == [id("stays")]).await;
        quoll.stop().await;
    });
}

/// What went out by a line that is gone does not any more, though the local session stays; what waited goes.
#[test]
fn lines_that_are_gone_leave_nothing_behind() {
    let runtime = runtime();
    let far = Fake::start(Manners::default());
    let block = |lines: &str| {
        format!("connection one\naddress 127.0.0.1:{}\nbridge_reload_type immediate\n{lines}", far.port)
    };
    runtime.block_on(async {
        let quoll = Quoll::start(&block("topic old/# out 1\ntopic both/# out 1\n")).await;
        far.connection(0, 4);
        quoll
            .bridges
            .replace(bridges(&configuration(&block("topic new/# out 1\ntopic both/# out 1\n"))))
            .await;
        far.connection(1, 4);
        let id = format!("local.{}.one", host_name());
        eventually("its subscriptions are the new ones", async || {
            let sessions = quoll.server.handle.sessions().await;
            let own = sessions.iter().find(|it| *it.session.client_id == *id);
            let mut filters: Vec<_> =
                own.iter().flat_map(|it| it.subscriptions.iter().map(|(it, _)| it.as_str())).collect();
            filters.sort_unstable();
            filters == ["both/#", "new/#"]
        })
        .await;
        let mut client = plain_client(quoll.server.plain, "here").await;
        for topic in ["old/x", "new/x", "both/x"] {
            client.publish(&message(topic, topic, QoS::AtLeastOnce)).await.unwrap();
        }
        let payload = |packet: &Packet| match packet {
            Packet::Publish(Publish { payload, delivery: Delivery::AtLeastOnce(_), .. })
                if payload.len() > 1 =>
            {
                Some(String::from_utf8_lossy(payload).into_owned())
            }
            _ => None,
        };
        let said =
            |heard: &[Vec<Packet>]| -> Vec<String> { heard.iter().flatten().filter_map(payload).collect() };
        let heard = far.wait("both", |heard| said(heard).len() >= 2);
        assert_eq!(said(&heard), ["new/x", "both/x"]);
        quoll.stop().await;
    });
}
