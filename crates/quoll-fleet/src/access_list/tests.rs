use proptest::prelude::*;
use time::OffsetDateTime;

use super::*;
use crate::client::{Client, Role};
use crate::device::{DeviceState, Rung};

fn topics(topic: &str, full_topic: &str) -> Topics {
    Topics {
        topic: topic.into(),
        full_topic: full_topic.into(),
        command: "cmnd".into(),
        status: "stat".into(),
        telemetry: "tele".into(),
        groups: vec!["tasmotas".into()],
        client_id: "DVES_D3E4F5".into(),
    }
}

fn device(topics: Topics) -> Device {
    Device {
        name: "plug".parse().unwrap(),
        address: "192.0.2.7".parse().unwrap(),
        mac: Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5]),
        chip: String::new(),
        firmware: String::new(),
        topics,
        rung: Rung::Mutual,
        state: DeviceState::Proven,
        serial: None,
        expires: None,
        first_seen: OffsetDateTime::UNIX_EPOCH,
        last_seen: None,
        problem: None,
        quarantine: None,
    }
}

#[test]
fn a_device_gets_what_it_says_and_hears_and_no_more() {
    let access = device_access(&device(topics("plug", "%prefix%/%topic%/"))).unwrap();
    let publish = ["stat/plug/#", "tele/plug/#", "cmnd/plug/POWER", "tasmota/discovery/A0B1C2D3E4F5/#"];
    assert_eq!(access.publish, publish);
    assert_eq!(access.subscribe, ["cmnd/plug/#", "cmnd/tasmotas/#", "cmnd/DVES_D3E4F5_fb/#"]);

    let access = device_access(&device(topics("plug", "home/%topic%/%prefix%"))).unwrap();
    assert_eq!(access.publish[0], "home/plug/stat/#");
    assert_eq!(access.subscribe[1], "home/tasmotas/cmnd/#");
}

#[test]
fn everything_a_device_does_after_connack_is_allowed() {
    // Facts 6.3, in order, by the topics of the dialect crate.
    let mac = Mac([0xA0, 0xB1, 0xC2, 0xD3, 0xE4, 0xF5]);
    let says = quoll_tasmota::Topics::new("plug", mac).unwrap();
    let access = device_access(&device(topics("plug", "%prefix%/%topic%/"))).unwrap();
    let within = |filters: &[String], wanted: &str| {
        filters.iter().any(|filter| {
            filter == wanted || filter.strip_suffix('#').is_some_and(|start| wanted.starts_with(start))
        })
    };
    for topic in says.publications() {
        assert!(within(&access.publish, topic.as_str()), "publish {}", topic.as_str());
    }
    for filter in says.subscriptions() {
        assert!(within(&access.subscribe, filter.as_str()), "subscribe {}", filter.as_str());
    }
    assert!(!within(&access.publish, "cmnd/plug/TLSKey1") && !within(&access.publish, "cmnd/lamp/POWER"));
}

#[test]
fn a_device_cannot_name_itself_into_others_topics() {
    let cases = [
        ("a wildcard", topics("+", "%prefix%/%topic%/")),
        ("all", topics("#", "%prefix%/%topic%/")),
        ("nothing", topics("", "%prefix%/%topic%/")),
        ("slashes", topics("//", "%prefix%/%topic%/")),
        ("system", topics("$SYS", "%prefix%/%topic%/")),
        ("a blank", topics("a b", "%prefix%/%topic%/")),
        ("no topic", topics("plug", "%prefix%/")),
        ("no prefix, so that Topic cmnd would be all commands", topics("cmnd", "%topic%/")),
        ("an unknown word", topics("plug", "%prefix%/%topic%/%hostname%/")),
        ("a wildcard between", topics("plug", "%prefix%/+/%topic%/")),
        ("a client id", Topics { client_id: "+".into(), ..topics("plug", "%prefix%/%topic%/") }),
        ("a group", Topics { groups: vec!["#".into()], ..topics("plug", "%prefix%/%topic%/") }),
        ("too many groups", Topics { groups: vec!["g".into(); 5], ..topics("plug", "%prefix%/%topic%/") }),
    ];
    for (case, topics) in cases {
        assert!(device_access(&device(topics)).is_err(), "{case}");
    }
}

#[test]
fn overlapping_topics_are_seen_and_common_groups_are_not() {
    let (mine, other) = (Mac([1; 6]), Mac([2; 6]));
    let default = "%prefix%/%topic%/";
    let lamp = Topics { client_id: "DVES_2".into(), ..topics("lamp", default) };
    let cases = [
        ("different", topics("plug", default), false),
        ("same", topics("lamp", default), true),
        ("below", topics("lamp/one", default), true),
        ("a longer name", topics("lamp2", default), false),
        ("its group", Topics { groups: vec!["lamp".into()], ..topics("plug", default) }, true),
        ("named after the other's group", topics("tasmotas", default), true),
        ("its fallback", Topics { client_id: "DVES_2".into(), ..topics("plug", default) }, true),
        ("turned round", topics("cmnd", "%topic%/%prefix%/"), false),
        (
            "turned round, with the other's topic as prefix",
            Topics { status: "lamp".into(), ..topics("cmnd", "%topic%/%prefix%/") },
            true,
        ),
    ];
    for (case, topics, expected) in cases {
        assert_eq!(overlap((mine, &topics), (other, &lamp)), expected, "{case}");
        assert_eq!(overlap((other, &lamp), (mine, &topics)), expected, "{case}, the other way");
    }
}

#[test]
fn roles_give_their_lists() {
    let client = |role| Client {
        name: "alice".parse().unwrap(),
        role,
        serial: None,
        expires: None,
        revoked: false,
        created: OffsetDateTime::UNIX_EPOCH,
        last_seen: None,
    };
    assert_eq!(client_access(&client(Role::Everything), &[]).unwrap().publish, ["#"]);
    assert!(client_access(&client(Role::Observer), &[]).unwrap().publish.is_empty());
    let own = Access { publish: vec!["from/%name%/#".into()], subscribe: vec!["+/x/#".into()] };
    let access = client_access(&client(Role::Custom(own)), &[]).unwrap();
    assert_eq!((access.publish[0].as_str(), access.subscribe[0].as_str()), ("from/alice/#", "+/x/#"));
    for bad in ["", "a/#/b", "a+", "b/c#", "x\0"] {
        let role = Role::Custom(Access { publish: vec![bad.into()], subscribe: vec![] });
        assert!(client_access(&client(role), &[]).is_err(), "{bad:?}");
    }
}

#[test]
fn a_role_follows_devices_whose_topics_are_not_the_default() {
    let client = |role| Client {
        name: "flows".parse().unwrap(),
        role,
        serial: None,
        expires: None,
        revoked: false,
        created: OffsetDateTime::UNIX_EPOCH,
        last_seen: None,
    };
    let full =
        ["%prefix%/%topic%/", "home/%topic%/%prefix%/", "home/%topic%/%prefix%/", "x-%topic%/%prefix%/"];
    let devices: Vec<_> =
        full.iter().zip(["a", "b", "c/d", "e"]).map(|(full, topic)| device(topics(topic, full))).collect();
    let access = client_access(&client(Role::NodeRed), &devices).unwrap();
    assert_eq!(access.publish, ["cmnd/#", "home/+/+/cmnd/#", "home/+/cmnd/#", "x-e/cmnd/#", "flows/#"]);
    let said = ["stat/#", "tele/#", "home/+/+/stat/#", "home/+/+/tele/#", "home/+/stat/#", "home/+/tele/#"];
    assert_eq!(access.subscribe[..6], said);
    let access = client_access(&client(Role::Dashboard), &[]).unwrap();
    assert_eq!(
        (access.publish.len(), access.subscribe),
        (0, texts(&["stat/#", "tele/#", "tasmota/discovery/#"]))
    );
    let hass = client_access(&client(Role::HomeAssistant), &[]).unwrap();
    assert_eq!(hass.publish, ["cmnd/#", "homeassistant/#"]);
    for role in [Role::HomeAssistant, Role::NodeRed, Role::Dashboard, Role::Observer, Role::Everything] {
        assert_eq!(Role::from_word(role.as_str()), Some(role));
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn seen(name: &str, act: Act, topic: &str) -> Observation {
    let at = OffsetDateTime::UNIX_EPOCH;
    Observation { name: name.into(), act, topic: topic.into(), refused: false, times: 1, first: at, last: at }
}

#[test]
fn what_is_proposed_is_narrow_and_says_where_it_reaches() {
    let lamp = Device {
        name: "lamp".parse().unwrap(),
        mac: Mac([1; 6]),
        ..device(topics("lamp", "%prefix%/%topic%/"))
    };
    let plug = device(topics("plug", "%prefix%/%topic%/"));
    let devices = [lamp, plug];
    let access = device_access(&devices[1]).unwrap();
    let table: &[(Act, &str, Option<Reach>)] = &[
        (Act::Publish, "stat/plug/X", None),
        (Act::Publish, "weather/out", Some(Reach::Own)),
        (Act::Publish, "cmnd/lamp/POWER", Some(Reach::Device("lamp".into()))),
        (Act::Publish, "stat/lamp/RESULT", Some(Reach::Device("lamp".into()))),
        (Act::Subscribe, "stat/lamp/#", Some(Reach::Own)),
        (Act::Subscribe, "cmnd/lamp/+", Some(Reach::Device("lamp".into()))),
        (Act::Subscribe, "#", Some(Reach::Wide)),
        (Act::Subscribe, "cmnd/#", Some(Reach::Device("lamp".into()))),
        (Act::Subscribe, "$SYS/broker/uptime", Some(Reach::Own)),
        (Act::Subscribe, "cmnd/plug/POWER", None),
    ];
    for (act, topic, expected) in table {
        let found =
            proposals("PLUG", &access, &[seen("plug", *act, topic), seen("lamp", *act, "other")], &devices);
        let found: Vec<_> = found.into_iter().map(|offer| (offer.filter, offer.reach)).collect();
        let expected: Vec<_> = expected.iter().map(|reach| ((*topic).to_owned(), reach.clone())).collect();
        assert_eq!(found, expected, "{act:?} {topic}");
    }
    let many: Vec<_> = (0..20).map(|n| seen("plug", Act::Publish, &format!("log/{n}"))).collect();
    let offers = proposals("plug", &access, &many, &devices);
    assert_eq!(offers.len(), 1);
    assert!(offers[0].filter == "log/+" && many.iter().all(|one| offers[0].allows(one)), "{offers:?}");
}

proptest! {
    #[test]
    fn what_is_proposed_allows_what_was_seen(topics in proptest::collection::vec("[ab]{1,2}(/[abc]{1,2}){0,3}", 1..30)) {
        let all: Vec<_> = topics.iter().map(|topic| seen("x", Act::Publish, topic)).collect();
        let offers = proposals("x", &Access::default(), &all, &[]);
        prop_assert!(all.iter().all(|one| offers.iter().any(|offer| offer.allows(one))));
        let list = Access { publish: offers.into_iter().map(|offer| offer.filter).collect(), ..Access::default() };
        prop_assert!(list.check().is_ok() || list.publish.len() > CLIENT_FILTERS_MAX);
        prop_assert!(proposals("x", &list, &all, &[]).is_empty(), "taken over, nothing is left to propose");
    }

    #[test]
    fn whatever_a_device_says_its_filters_have_one_wildcard_at_the_end(
        topic in ".{0,12}|[a-z/+#$]{1,8}", full in ".{0,12}|[a-z/%]{0,6}%prefix%/%topic%/", client_id in ".{0,8}"
    ) {
        let topics = Topics { client_id, ..topics(&topic, &full) };
        if let Ok(access) = device_access(&device(topics)) {
            for filter in access.publish.iter().chain(&access.subscribe) {
                let body = filter.strip_suffix("/#").unwrap_or(filter);
                prop_assert!(!body.contains(['+', '#']), "{filter}");
                prop_assert!(!body.trim_matches('/').is_empty() && !filter.starts_with('$'), "{filter}");
            }
        }
    }
}
