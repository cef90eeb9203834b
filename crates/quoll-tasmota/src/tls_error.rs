//! The numbers in a device's log (`MQT: TLS connection error: N`) and what to do about each. Facts §3.3, §3.4, §7.4.
//!
//! Up to 62 they are BearSSL's error codes, from 256 on an alert the broker sent, below 0 Tasmota's own.

/// What one number means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TlsError {
    /// The number as logged.
    pub number: i32,
    /// What happened.
    pub cause: &'static str,
    /// What to do about it.
    pub fix: &'static str,
}

/// What a logged number means; none for numbers nobody has seen.
#[must_use]
pub fn explain(number: i32) -> Option<&'static TlsError> {
    TABLE.iter().find(|row| row.number == number)
}

/// The number in a log line with `TLS connection error: N`.
#[must_use]
pub fn number_in(line: &str) -> Option<i32> {
    let (_, rest) = line.split_once("TLS connection error: ")?;
    let end = rest.char_indices().find(|&(at, c)| !(c.is_ascii_digit() || (at == 0 && c == '-')));
    rest[..end.map_or(rest.len(), |(at, _)| at)].parse().ok()
}

/// Number of an alert that the broker sent.
pub const ALERT_RECEIVED: i32 = 256;

macro_rules! table {
    ($( $number:literal, $cause:literal, $fix:literal; )*) => {
        /// Every number with a known meaning.
        pub const TABLE: &[TlsError] = &[$( TlsError { number: $number, cause: $cause, fix: $fix }, )*];
    };
}

table! {
    -1005, "the handshake took longer than 10 s",
        "check the network and that the port is the broker's TLS port";
    -1002, "the broker's port refuses connections", "check MqttHost, MqttPort and that the broker runs";
    -1001, "the broker's host name has no address", "check MqttHost and the device's DNS server";
    -1000, "the device has no memory for TLS", "turn off features, or use a device with more memory";
    0, "the broker closed the connection during the handshake without saying why",
        "usually a wrong port, a port without TLS, or too little memory on the device";
    1, "the broker's key has another fingerprint", "set MqttFingerprint1 to the broker's fingerprint again";
    6, "the broker sent a record larger than the device's buffer",
        "limit the broker's records to 1024 bytes (its TLS profile for Tasmota)";
    7, "a record was damaged on its way", "try again; look for something that changes traffic in between";
    23, "a number of the handshake is larger than the device can compute with", "give the broker an RSA-2048 key";
    26, "the broker signed with an algorithm the device does not have", "allow rsa_pkcs1_sha256 at the broker";
    27, "the signature of the handshake is wrong or its key too large",
        "give the broker an RSA-2048 key; RSA-4096 needs an ESP32 or USE_4K_RSA";
    28, "the broker's certificate does not allow signing (keyUsage without digitalSignature)",
        "issue the server certificate anew with keyUsage digitalSignature, keyEncipherment";
    49, "a certificate is signed with another hash than SHA-256", "issue the server certificate anew with SHA-256";
    50, "a certificate has a key larger than the device can compute with", "use RSA-2048 or P-256";
    52, "a signature in the broker's certificate chain is wrong", "check that the broker sends the right chain";
    54, "the broker's certificate is expired or not yet valid, by the device's clock",
        "check the certificate's dates and the device's clock (Status 7, NtpServer1)";
    55, "the certificates of the chain do not follow each other", "let the broker send leaf, then issuer, each once";
    56, "the broker's certificate is for another name",
        "the name or IP text in MqttHost must be a SAN dNSName of the server certificate";
    57, "the broker's certificate has a critical extension the device does not know",
        "issue it anew with extendedKeyUsage not critical";
    58, "an intermediate certificate is not marked as a CA", "issue it with basicConstraints CA:TRUE";
    59, "an intermediate certificate may not sign certificates", "issue it with keyUsage keyCertSign";
    60, "a key is too short", "use RSA-2048 or P-256";
    62, "the device does not know the CA, or cannot check its kind of signature",
        "compile the CA into the firmware; an EC CA also needs SetOption165 1, an RSA-4096 CA needs an ESP32; \
         stock firmware needs fingerprint mode (SetOption132 1)";
    296, "no common cipher suite, or the broker wants a certificate that the device did not send",
        "give the broker an RSA key (or set SetOption165 1); store TLSKey1 and TLSKey2 on the device";
    298, "the broker refuses the device's certificate as broken", "issue and store the device's certificate anew";
    300, "the broker refuses the device's certificate as revoked", "enrol the device again";
    301, "the broker refuses the device's certificate as expired", "renew the device's certificate";
    302, "the broker does not accept the device's certificate", "look at the broker's log for the reason";
    304, "the broker does not know the CA of the device's certificate",
        "the broker must trust the CA that issued the device's certificate (the issuing one itself)";
    305, "the broker denies access", "look at the broker's log for the reason";
    307, "the device's key does not belong to its certificate", "store TLSKey1 and TLSKey2 of the same issue";
    326, "the broker does not speak TLS 1.2", "allow TLS 1.2 at the broker";
    372, "the broker wants a client certificate and the device has none",
        "store TLSKey1 and TLSKey2, or use a listener without client certificates";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_fact_sheet_are_explained() {
        let known = [-1000, -1001, -1002, -1005, 0, 1, 6, 23, 27, 28, 49, 50, 54, 55, 56, 57, 58, 62];
        for number in known.into_iter().chain([296, 298, 304, 307, 326, 372]) {
            let row = explain(number).unwrap_or_else(|| panic!("{number} is not in the table"));
            assert!(!row.cause.is_empty() && !row.fix.is_empty());
        }
        assert_eq!(explain(9999), None);
    }

    #[test]
    fn a_log_line_gives_its_number() {
        let line = "14:53:30.123 MQT: TLS connection error: 296";
        assert_eq!(number_in(line), Some(296));
        assert_eq!(number_in("MQT: TLS connection error: -1005 now"), Some(-1005));
        assert_eq!(number_in("MQT: TLS connection error: "), None);
        assert_eq!(number_in("MQT: Connected"), None);
    }
}
