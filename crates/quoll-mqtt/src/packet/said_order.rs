//! In which order an application said the properties that a server passes on.
//!
//! The standard gives the order of User Properties alone a meaning [MQTT-3.3.2-18]; a server that passes on the others as they
//! stood, too, has nothing to explain to whoever compares bytes. Mosquitto does.

use crate::property::Property;

/// What a server passes on unaltered (§3.3.2.3, §3.1.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    PayloadFormatIndicator = 1,
    ContentType,
    ResponseTopic,
    CorrelationData,
    User,
}

const KINDS: [Kind; 5] =
    [Kind::PayloadFormatIndicator, Kind::ContentType, Kind::ResponseTopic, Kind::CorrelationData, Kind::User];

/// The order of Payload Format Indicator, Content Type, Response Topic, Correlation Data and User Properties, by the first of
/// each; the default is this one.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct SaidOrder(u16);

impl SaidOrder {
    /// A property was said.
    pub(crate) fn note_property(&mut self, property: &Property<'_>) {
        match property {
            Property::PayloadFormatIndicator(_) => self.note(Kind::PayloadFormatIndicator),
            Property::ContentType(_) => self.note(Kind::ContentType),
            Property::ResponseTopic(_) => self.note(Kind::ResponseTopic),
            Property::CorrelationData(_) => self.note(Kind::CorrelationData),
            Property::User(_) => self.note(Kind::User),
            _ => {}
        }
    }

    fn note(&mut self, kind: Kind) {
        let free = (0..5).map(|place| place * 3).find(|shift| {
            let known = self.0 >> shift & 7;
            known == 0 || known == kind as u16
        });
        if let Some(shift) = free {
            self.0 |= (kind as u16) << shift;
        }
    }

    /// The same; the usual order is the default, however it came to be.
    pub(crate) fn settled(self) -> Self {
        let noted = (0..5).map(|place| self.0 >> (place * 3) & 7).take_while(|kind| *kind > 0);
        if noted.is_sorted() { Self(0) } else { self }
    }

    /// As a number, for a server that keeps messages over a restart; 0 for the usual order.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The order with this number; `None` where no order has it.
    #[must_use]
    pub fn numbered(number: u16) -> Option<Self> {
        let digits: Vec<u16> = (0..5).map(|place| number >> (place * 3) & 7).collect();
        let said = digits.iter().take_while(|kind| **kind > 0).count();
        let is_whole = number >> 15 == 0 && digits[said..].iter().all(|kind| *kind == 0);
        let is_known =
            digits[..said].iter().enumerate().all(|(at, kind)| *kind <= 5 && !digits[..at].contains(kind));
        (is_whole && is_known && Self(number).settled() == Self(number)).then_some(Self(number))
    }

    /// All kinds, in this order.
    pub(crate) fn kinds(self) -> impl Iterator<Item = Kind> {
        let place =
            move |kind: Kind| (0..5).find(|place| self.0 >> (place * 3) & 7 == kind as u16).unwrap_or(5);
        let mut kinds = KINDS;
        if self.0 > 0 {
            kinds.sort_by_key(|kind| place(*kind));
        }
        kinds.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_first_in_its_order_and_the_rest_behind_it() {
        let order = |kinds: &[Kind]| {
            let mut order = SaidOrder::default();
            kinds.iter().for_each(|kind| order.note(*kind));
            order.settled()
        };
        use Kind::{
            ContentType as C, CorrelationData as D, PayloadFormatIndicator as P, ResponseTopic as R,
            User as U,
        };
        for (said, expected) in [
            (&[][..], [P, C, R, D, U]),
            (&[U, P, U, D][..], [U, P, D, C, R]),
            (&[U, D, R, C, P][..], [U, D, R, C, P]),
            (&[C, U][..], [P, C, R, D, U]),
        ] {
            assert_eq!(order(said).kinds().collect::<Vec<_>>(), expected, "{said:?}");
        }
        assert_eq!(order(&[P, R, U, U]), SaidOrder::default());
    }

    #[test]
    fn an_order_has_a_number_and_other_numbers_are_no_order() {
        let orders: Vec<SaidOrder> = (0..=u16::MAX).filter_map(SaidOrder::numbered).collect();
        // Ways to say some of five kinds, without those in the usual order, and that one.
        assert_eq!(orders.len(), 1 + 5 + 20 + 60 + 120 + 120 - 31);
        assert!(orders.iter().all(|order| order.settled() == *order && SaidOrder::numbered(order.number()) == Some(*order)));
        assert_eq!(SaidOrder::numbered(0), Some(SaidOrder::default()));
        for (no_order, why) in [
            (0o0_21, "the usual order"),
            (0o0_11, "a kind twice"),
            (0o0_61, "no kind"),
            (0o1_02, "a gap"),
            (0x8000 | 0o12, "a bit too many"),
        ] {
            assert_eq!(SaidOrder::numbered(no_order), None, "{why}");
        }
    }
}
