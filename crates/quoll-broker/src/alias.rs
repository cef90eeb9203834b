//! Topic aliases, both ways, and what else only some 5.0 connections have (§3.3.2.3.4, §3.1.2.11).

use std::collections::HashMap;
use std::num::NonZeroU16;

use quoll_mqtt::TopicName;

/// What a 5.0 connection asked for beyond the ordinary. Absent for most.
#[derive(Debug)]
pub(crate) struct Extraordinary {
    /// The largest packet it takes, in bytes [MQTT-3.1.2-24].
    pub(crate) maximum_packet_size: u32,
    /// Topics that the client numbered, from alias 1.
    from_client: Vec<Option<TopicName>>,
    /// Topics that we numbered, from alias 1. Looked up for each message: an operator may allow thousands of them.
    to_client: HashMap<TopicName, NonZeroU16>,
    /// How many we may number.
    to_client_maximum: u16,
}

impl Extraordinary {
    pub(crate) fn new(maximum_packet_size: Option<u32>, to_client_maximum: u16) -> Self {
        let maximum_packet_size = maximum_packet_size.unwrap_or(u32::MAX);
        Self { maximum_packet_size, from_client: Vec::new(), to_client: HashMap::new(), to_client_maximum }
    }

    /// The client gives a topic a number; an older meaning ends.
    pub(crate) fn learn(&mut self, alias: NonZeroU16, topic: TopicName) {
        let at = usize::from(alias.get()) - 1;
        if self.from_client.len() <= at {
            self.from_client.resize(at + 1, None);
        }
        self.from_client[at] = Some(topic);
    }

    /// The topic that the client means.
    pub(crate) fn meant(&self, alias: NonZeroU16) -> Option<TopicName> {
        self.from_client.get(usize::from(alias.get()) - 1).cloned().flatten()
    }

    /// A number for a topic that we send, and whether the client knows it. First come, first numbered: a topic
    /// that came once in a connection is likely to come again, and nothing is ever renumbered.
    pub(crate) fn number(&self, topic: &TopicName) -> Option<(NonZeroU16, bool)> {
        if let Some(alias) = self.to_client.get(topic) {
            return Some((*alias, true));
        }
        self.next_number().map(|alias| (alias, false))
    }

    /// The packet that told a new number goes out.
    pub(crate) fn told(&mut self, topic: &TopicName) {
        if let Some(alias) = self.next_number() {
            self.to_client.insert(topic.clone(), alias);
        }
    }

    fn next_number(&self) -> Option<NonZeroU16> {
        let next = u16::try_from(self.to_client.len() + 1).ok()?;
        NonZeroU16::new(next).filter(|alias| alias.get() <= self.to_client_maximum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_get_numbers_and_keep_them() {
        let mut own = Extraordinary::new(None, 2);
        let topic = |text| TopicName::parse(text).unwrap();
        let mut send = |text| {
            let number = own.number(&topic(text));
            if let Some((_, false)) = number {
                own.told(&topic(text));
            }
            number.map(|(alias, known)| (alias.get(), known))
        };
        let answers = ["a", "b", "a", "c", "b"].map(&mut send);
        assert_eq!(answers, [Some((1, false)), Some((2, false)), Some((1, true)), None, Some((2, true))]);
    }

    /// Looking through all of them for each message would take minutes here, and a shard's time in earnest.
    #[test]
    fn thousands_of_numbered_topics_are_found_at_once() {
        let mut own = Extraordinary::new(None, u16::MAX);
        let topics: Vec<_> =
            (1..=u16::MAX).map(|number| TopicName::parse(&format!("a/topic/{number}")).unwrap()).collect();
        for round in [false, true] {
            for (alias, topic) in (1..=u16::MAX).zip(&topics) {
                assert_eq!(
                    own.number(topic).map(|(alias, known)| (alias.get(), known)),
                    Some((alias, round))
                );
                if !round {
                    own.told(topic);
                }
            }
        }
        assert_eq!(own.number(&TopicName::parse("one more").unwrap()), None);
    }
}
