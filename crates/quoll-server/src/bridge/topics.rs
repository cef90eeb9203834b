//! What goes over a bridge, and under which name: the `topic` lines, obeyed as Mosquitto obeys them.
//!
//! A line's filter at one end is its prefix there with its pattern behind; a topic that matches loses the prefix of the end
//! that it comes from and is given the other's. The first line with a prefix that matches decides; without one the topic
//! stays as it is.

use std::collections::HashSet;

use quoll_mqtt::{QoS, TopicFilter, TopicName, topic};

use crate::mosquitto::bridge::{BridgeTopic, Direction};

/// The `topic` lines of a bridge.
#[derive(Clone, Debug)]
pub(super) struct Topics(Vec<BridgeTopic>);

impl Topics {
    pub(super) fn new(lines: Vec<BridgeTopic>) -> Self {
        Self(lines)
    }

    pub(super) fn lines(&self) -> &[BridgeTopic] {
        &self.0
    }

    /// What is wanted of this broker, each filter once: the last line about one decides, as a second SUBSCRIBE would.
    pub(super) fn wanted_here(&self) -> Vec<(TopicFilter, QoS)> {
        let mut seen = HashSet::new();
        let mut wanted: Vec<(TopicFilter, QoS)> = Vec::new();
        for line in self.0.iter().rev().filter(|line| goes_out(line)) {
            if seen.insert(&line.local) {
                wanted.push((line.local.clone(), line.qos));
            }
        }
        wanted.reverse();
        wanted
    }

    /// The other broker's name for a topic of ours; `None` where none of the lines sends it, or the name would be none.
    pub(super) fn outward(&self, name: &TopicName) -> Option<TopicName> {
        self.across(name, goes_out, |line| Ends {
            filter: &line.local,
            from: line.local_prefix.as_deref(),
            to: line.remote_prefix.as_deref(),
        })
    }

    /// Our name for a topic of the other broker; `None` where none of the lines takes it, or the name would be none.
    pub(super) fn inward(&self, name: &TopicName) -> Option<TopicName> {
        self.across(name, comes_in, |line| Ends {
            filter: &line.remote,
            from: line.remote_prefix.as_deref(),
            to: line.local_prefix.as_deref(),
        })
    }

    fn across(
        &self,
        name: &TopicName,
        is_this_way: fn(&BridgeTopic) -> bool,
        ends: for<'a> fn(&'a BridgeTopic) -> Ends<'a>,
    ) -> Option<TopicName> {
        let mut is_known = false;
        for line in self.0.iter().filter(|line| is_this_way(line)) {
            let Ends { filter, from, to } = ends(line);
            if !topic::matches(filter.unshared(), name.as_str()) {
                continue;
            }
            is_known = true;
            if from.is_none() && to.is_none() {
                continue;
            }
            let rest = from.and_then(|prefix| name.as_str().strip_prefix(prefix)).unwrap_or(name.as_str());
            return TopicName::parse(&format!("{}{rest}", to.unwrap_or_default())).ok();
        }
        is_known.then(|| name.clone())
    }
}

/// A line, seen from the end that a message comes from.
struct Ends<'a> {
    filter: &'a TopicFilter,
    from: Option<&'a str>,
    to: Option<&'a str>,
}

/// Whether messages of ours go there by this line.
pub(super) fn goes_out(line: &BridgeTopic) -> bool {
    matches!(line.direction, Direction::Out | Direction::Both)
}

/// Whether messages of theirs come here by this line.
pub(super) fn comes_in(line: &BridgeTopic) -> bool {
    matches!(line.direction, Direction::In | Direction::Both)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as `topic PATTERN DIRECTION 1 LOCAL REMOTE` says it; `""` for nothing.
    fn line(pattern: &str, direction: Direction, local: &str, remote: &str) -> BridgeTopic {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        BridgeTopic {
            pattern: some(pattern),
            direction,
            qos: QoS::AtLeastOnce,
            local_prefix: some(local),
            remote_prefix: some(remote),
            local: TopicFilter::parse(&format!("{local}{pattern}")).unwrap(),
            remote: TopicFilter::parse(&format!("{remote}{pattern}")).unwrap(),
        }
    }

    #[test]
    fn topics_are_renamed_by_the_first_line_with_a_prefix_that_matches() {
        use Direction::{Both, In, Out};
        let topics = Topics::new(vec![
            line("plain/#", Out, "", ""),
            line("out/#", Out, "l/", "r/"),
            line("in/+/x", In, "", "far/"),
            line("both/#", Both, "here/", ""),
            line("", Out, "exact/here", "exact/there"),
            line("#", Out, "deep/", "x/deep/"),
        ]);
        let rows = [
            // direction, from, to
            ("out", "plain/a", Some("plain/a")),
            ("out", "l/out/1/2", Some("r/out/1/2")),
            ("out", "l/out", Some("r/out")),
            ("out", "here/both/a", Some("both/a")),
            ("out", "exact/here", Some("exact/there")),
            ("out", "deep/a", Some("x/deep/a")),
            // Matched by `#` without the prefix's slash: nothing to take away.
            ("out", "deep", Some("x/deep/deep")),
            ("out", "far/in/a/x", None),
            ("out", "other", None),
            ("in", "far/in/a/x", Some("in/a/x")),
            ("in", "both/a", Some("here/both/a")),
            ("in", "far/in/a/y", None),
            ("in", "plain/a", None),
            ("in", "r/out/1", None),
        ];
        for (direction, from, to) in rows {
            let from = TopicName::parse(from).unwrap();
            let mapped = if direction == "out" { topics.outward(&from) } else { topics.inward(&from) };
            assert_eq!(mapped.as_ref().map(TopicName::as_str), to, "{direction} {from}");
        }
    }

    #[test]
    fn a_name_that_would_be_none_is_not_sent() {
        let topics = Topics::new(vec![line("#", Direction::Out, "home/", "")]);
        assert_eq!(topics.outward(&TopicName::parse("home/").unwrap()), None, "nothing is left of it");
        let long = Topics::new(vec![line("#", Direction::In, &format!("{}/", "p".repeat(60_000)), "")]);
        assert_eq!(long.inward(&TopicName::parse(&"t".repeat(6_000)).unwrap()), None, "over 65,535 bytes");
    }

    #[test]
    fn each_filter_is_wanted_once_and_the_last_line_about_it_decides() {
        let mut again = line("a/#", Direction::Out, "", "other/");
        again.qos = QoS::ExactlyOnce;
        let topics = Topics::new(vec![
            line("a/#", Direction::Out, "", ""),
            line("b", Direction::In, "", ""),
            line("c", Direction::Both, "", ""),
            again,
        ]);
        let wanted = topics.wanted_here();
        let wanted: Vec<_> = wanted.iter().map(|(filter, qos)| (filter.as_str(), *qos)).collect();
        assert_eq!(wanted, [("c", QoS::AtLeastOnce), ("a/#", QoS::ExactlyOnce)]);
    }
}
