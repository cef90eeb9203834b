//! Chance, from a seed handed in: message numbers and generated client identifiers. Not for secrets.

/// SplitMix64: each number once in 2^64, at the price of an addition and three multiplications.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        value ^ (value >> 31)
    }

    /// A client identifier in the form that Mosquitto's have: the prefix, then a random UUID.
    pub(crate) fn client_id(&mut self, prefix: &str) -> String {
        let (high, low) = (self.roll(), self.roll());
        format!(
            "{prefix}{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xFFFF,
            high & 0xFFF,
            low >> 48 & 0x3FFF | 0x8000,
            low & 0xFFFF_FFFF_FFFF,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_client_id_is_a_version_4_uuid_behind_its_prefix_and_differs_each_time() {
        let mut dice = Dice::new(1);
        let (one, two) = (dice.client_id("auto-"), dice.client_id("auto-"));
        assert_ne!(one, two);
        let parts: Vec<_> = one.strip_prefix("auto-").unwrap().split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']));
    }
}
