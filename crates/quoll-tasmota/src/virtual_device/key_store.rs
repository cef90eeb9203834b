//! Where TLSKey1 and TLSKey2 end up, with the quirks of both chips. Facts §1.2, §1.3.
//!
//! The two chips differ in what a new key does to an old certificate, and in what a mistake destroys. The limits of
//! the road (891 bytes over HTTP) keep a certificate below the 960 bytes from which a real ESP32 damages its memory, so
//! that is not modelled.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use zeroize::Zeroizing;

use super::Chip;
use crate::{
    limits::{CERTIFICATE_MIN, KEY_BYTES},
    tls_key::Stored,
};

/// Key and certificate, as one area of flash or its copy in RAM.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct KeyArea {
    key: Option<Zeroizing<[u8; KEY_BYTES]>>,
    certificate: Option<Vec<u8>>,
}

impl KeyArea {
    /// Lengths, as TLSKey reports them.
    #[must_use]
    pub fn stored(&self) -> Stored {
        Stored {
            key: self.key.as_ref().map(|_| KEY_BYTES),
            certificate: self.certificate.as_ref().map(Vec::len),
        }
    }

    /// Both, if both are there.
    #[must_use]
    pub fn credentials(&self) -> Option<(Zeroizing<[u8; KEY_BYTES]>, Vec<u8>)> {
        Some((self.key.clone()?, self.certificate.clone()?))
    }

    /// The ESP32's file `/tlskey`, always 1024 bytes: a directory of four entries (name, offset and length, little
    /// endian), the key, the certificate. Facts §1.3.
    #[must_use]
    pub fn file(&self) -> Zeroizing<Vec<u8>> {
        const DIRECTORY: usize = 32;
        let mut file = Zeroizing::new(vec![0; 1024]);
        let mut put = |entry: usize, name: &[u8; 4], offset: usize, content: &[u8]| {
            let number = |number: usize| u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
            file[entry * 8..entry * 8 + 4].copy_from_slice(name);
            file[entry * 8 + 4..entry * 8 + 6].copy_from_slice(&number(offset));
            file[entry * 8 + 6..entry * 8 + 8].copy_from_slice(&number(content.len()));
            let room = &mut file[DIRECTORY + offset..];
            let fits = content.len().min(room.len());
            room[..fits].copy_from_slice(&content[..fits]);
        };
        if let Some(key) = &self.key {
            put(0, b"key ", 0, &**key);
        }
        if let Some(certificate) = &self.certificate {
            put(1, b"crt ", KEY_BYTES, certificate);
        }
        file
    }
}

/// The store while the device runs: what is in flash, and what was loaded.
pub struct KeyStore {
    chip: Chip,
    flash: Option<KeyArea>,
    ram: Option<KeyArea>,
}

impl KeyStore {
    /// At boot. With TLS off nothing is loaded until the first TLSKey command has run.
    #[must_use]
    pub fn boot(chip: Chip, flash: Option<KeyArea>, tls_on: bool) -> Self {
        let ram = if tls_on { flash.clone() } else { None };
        Self { chip, flash, ram }
    }

    /// What survives a loss of power.
    #[must_use]
    pub fn flash(&self) -> Option<KeyArea> {
        self.flash.clone()
    }

    /// What the next connection uses.
    #[must_use]
    pub fn loaded(&self) -> KeyArea {
        self.ram.clone().unwrap_or_default()
    }

    /// Runs `TLSKey<index> <value>`, a query if there is no value. The error is the line the device logs.
    ///
    /// # Errors
    /// Wrong length, wrong order, wrong index.
    pub fn command(&mut self, index: u32, value: Option<&str>) -> Result<Stored, String> {
        if let Some(value) = value {
            let content = decode(value);
            match index {
                _ if content.is_empty() => self.erase(),
                1 => self.store_key(&content)?,
                2 => self.store_certificate(&content)?,
                _ => return Err("TLSKey: no such index".into()),
            }
        } else if !(1..=2).contains(&index) {
            return Err("TLSKey: no such index".into());
        }
        if self.ram.is_none() {
            self.ram = self.flash.clone();
        }
        Ok(self.loaded().stored())
    }

    /// An ESP32 deletes the file and forgets its RAM copy only at the next boot.
    fn erase(&mut self) {
        self.flash = None;
        if self.chip == Chip::Esp8266 {
            self.ram = None;
        }
    }

    fn store_key(&mut self, content: &[u8]) -> Result<(), String> {
        if self.chip == Chip::Esp32 {
            // The file goes before the length is looked at: a mistake costs the credentials at the next boot.
            self.flash = None;
        }
        let key: [u8; KEY_BYTES] = content
            .try_into()
            .map_err(|_| format!("TLSKey: Certificate must be 32 bytes: {}.", content.len()))?;
        let certificate = match self.chip {
            Chip::Esp32 => self.ram.as_ref().and_then(|area| area.certificate.clone()),
            Chip::Esp8266 => None,
        };
        self.write(KeyArea { key: Some(Zeroizing::new(key)), certificate });
        Ok(())
    }

    fn store_certificate(&mut self, content: &[u8]) -> Result<(), String> {
        let key = self.ram.as_ref().and_then(|area| area.key.clone());
        if key.is_none() {
            return Err("TLSKey: cannot store Cert if no Key previously stored.".into());
        }
        if content.len() < CERTIFICATE_MIN {
            return Err(format!("TLSKey: Certificate length too short: {}.", content.len()));
        }
        self.write(KeyArea { key, certificate: Some(content.to_vec()) });
        Ok(())
    }

    fn write(&mut self, area: KeyArea) {
        self.flash = Some(area.clone());
        self.ram = Some(area);
    }
}

/// Base64 as the device reads it: white space dropped, then everything up to the first foreign character.
fn decode(value: &str) -> Zeroizing<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone);
    let known = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/');
    let mut text: Zeroizing<String> =
        Zeroizing::new(value.chars().filter(|c| !c.is_whitespace()).take_while(known).collect());
    if text.len() % 4 == 1 {
        text.pop();
    }
    let decoded = GeneralPurpose::new(&STANDARD, lenient).decode(text.as_bytes());
    Zeroizing::new(decoded.expect("only characters of the alphabet, in a possible number"))
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose;

    use super::*;

    fn key(byte: u8) -> String {
        general_purpose::STANDARD.encode([byte; 32])
    }

    fn certificate(bytes: usize) -> String {
        general_purpose::STANDARD.encode(vec![0x30; bytes])
    }

    fn lengths(key: i64, certificate: i64) -> Result<Stored, String> {
        Ok(Stored { key: usize::try_from(key).ok(), certificate: usize::try_from(certificate).ok() })
    }

    fn stored_on(chip: Chip) -> KeyStore {
        let mut store = KeyStore::boot(chip, None, true);
        assert_eq!(store.command(1, Some(&key(1))), lengths(32, -1));
        assert_eq!(store.command(2, Some(&certificate(441))), lengths(32, 441));
        store
    }

    fn rebooted(store: &KeyStore, tls_on: bool) -> KeyStore {
        KeyStore::boot(store.chip, store.flash(), tls_on)
    }

    #[test]
    fn a_new_key_keeps_the_old_certificate_on_an_esp32_only() {
        assert_eq!(stored_on(Chip::Esp32).command(1, Some(&key(2))), lengths(32, 441));
        assert_eq!(stored_on(Chip::Esp8266).command(1, Some(&key(2))), lengths(32, -1));
    }

    #[test]
    fn an_erased_key_comes_back_with_the_next_certificate_on_an_esp32() {
        let mut store = stored_on(Chip::Esp32);
        assert_eq!(store.command(1, Some("0")), lengths(32, 441));
        assert_eq!(rebooted(&store, true).command(1, None), lengths(-1, -1));
        assert_eq!(store.command(2, Some(&certificate(500))), lengths(32, 500));
        assert_eq!(rebooted(&store, true).command(1, None), lengths(32, 500));
        let mut store = stored_on(Chip::Esp8266);
        assert_eq!(store.command(1, Some("0")), lengths(-1, -1));
    }

    #[test]
    fn a_key_of_wrong_length_costs_an_esp32_its_credentials_at_the_next_boot() {
        for (chip, after_boot) in [(Chip::Esp32, lengths(-1, -1)), (Chip::Esp8266, lengths(32, 441))] {
            let mut store = stored_on(chip);
            let error = store.command(1, Some("AAAA")).unwrap_err();
            assert_eq!(error, "TLSKey: Certificate must be 32 bytes: 3.");
            assert_eq!(store.command(1, None), lengths(32, 441), "{chip:?}");
            assert_eq!(rebooted(&store, true).command(1, None), after_boot, "{chip:?}");
        }
    }

    #[test]
    fn with_tls_off_a_certificate_needs_a_query_first() {
        for chip in [Chip::Esp32, Chip::Esp8266] {
            let mut store = rebooted(&stored_on(chip), false);
            assert!(store.command(2, Some(&certificate(500))).is_err(), "{chip:?}");
            let mut store = rebooted(&stored_on(chip), false);
            assert_eq!(store.command(1, None), lengths(32, 441), "{chip:?}");
            assert_eq!(store.command(2, Some(&certificate(500))), lengths(32, 500), "{chip:?}");
            let mut store = rebooted(&stored_on(chip), false);
            assert_eq!(store.command(1, Some(&key(3))), lengths(32, -1), "{chip:?}");
        }
    }

    #[test]
    fn base64_stops_at_the_first_foreign_character() {
        assert_eq!(decode("AAEC").as_slice(), [0, 1, 2]);
        assert_eq!(decode("AA EC\t").as_slice(), [0, 1, 2]);
        assert_eq!(decode("AAEC-AAA").as_slice(), [0, 1, 2]);
        assert_eq!(decode("AAECA").as_slice(), [0, 1, 2]);
        assert_eq!(decode("AAE=").as_slice(), [0, 1]);
        assert!(decode("").is_empty() && decode("0").is_empty() && decode("====").is_empty());
    }

    #[test]
    fn a_short_certificate_is_refused() {
        let mut store = KeyStore::boot(Chip::Esp32, None, true);
        let none = store.command(2, Some(&certificate(300))).unwrap_err();
        assert_eq!(none, "TLSKey: cannot store Cert if no Key previously stored.");
        store.command(1, Some(&key(1))).unwrap();
        let short = store.command(2, Some(&certificate(256))).unwrap_err();
        assert_eq!(short, "TLSKey: Certificate length too short: 256.");
        assert_eq!(store.command(2, Some(&certificate(257))), lengths(32, 257));
    }
}
