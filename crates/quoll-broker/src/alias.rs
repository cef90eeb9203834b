//! Topic aliases, both ways, and what else only some 5.0 connections have (§3.3.2.3.4, §3.1.2.11).

use std::num::NonZeroU16;

use quoll_mqtt::TopicName;

/// What a 5.0 connection asked for beyond the ordinary. Absent for most.
#[derive(Debug)]
pub(crate) struct Extraordinary {
    /// The largest packet it takes, in bytes [MQTT-3.1.2-24].
    pub(crate) maximum_packet_size: u32,
    /// Topics that the client numbered, from alias 1.
    from_client: Vec<Option<TopicName>>,
    /// Topics that we numbered, from alias 1.
    to_client: Vec<TopicName>,
    /// How many we may number.
    to_client_maximum: u16,
}

impl Extraordinary {
    pub(crate) const fn new(maximum_packet_size: Option<u32>, to_client_maximum: u16) -> Self {
        let maximum_packet_size = match maximum_packet_size {
            Some(size) => size,
            None => u32::MAX,
        };
        Self { maximum_packet_size, from_client: Vec::new(), to_client: Vec::new(), to_client_maximum }
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
        let known = self.to_client.iter().position(|known| known == topic);
        let at = known.or_else(|| {
            (self.to_client.len() < usize::from(self.to_client_maximum)).then_some(self.to_client.len())
        })?;
        let alias = u16::try_from(at + 1).ok().and_then(NonZeroU16::new)?;
        Some((alias, known.is_some()))
    }

    /// The packet that told a new number goes out.
    pub(crate) fn told(&mut self, topic: &TopicName) {
        self.to_client.push(topic.clone());
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
}
