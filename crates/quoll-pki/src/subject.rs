//! The subject of a certificate: who it is for, as a Name (RFC 5280 §4.1.2.6) and as the one line of `index.txt`.

use std::fmt::Write;

use x509_cert::{
    attr::AttributeTypeAndValue,
    der::{
        Any, Decode, Encode, Tag, Tagged,
        asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, Utf8StringRef},
    },
    name::{Name, RdnSequence, RelativeDistinguishedName},
};

use crate::error::PkiError;

/// What the subject says besides the common name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Subject {
    /// Nothing: `CN=name`. The default, because a device's certificate must be small.
    #[default]
    CnOnly,
    /// Easy-RSA's `org` form.
    Org(Organisation),
    /// A Name as DER, taken byte for byte: that of a certificate which is being replaced.
    SameAs(Vec<u8>),
}

/// The fields of Easy-RSA's `org` mode; an empty one is left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Organisation {
    /// `C`, two letters.
    pub country: String,
    /// `ST`.
    pub province: String,
    /// `L`.
    pub city: String,
    /// `O`.
    pub organisation: String,
    /// `OU`.
    pub unit: String,
    /// `emailAddress`, ASCII.
    pub email: String,
}

/// OID, OpenSSL's short name, string type; in the order of Easy-RSA's DN.
const ATTRIBUTES: [(ObjectIdentifier, &str); 16] = [
    (oid("2.5.4.6"), "C"),
    (oid("2.5.4.8"), "ST"),
    (oid("2.5.4.7"), "L"),
    (oid("2.5.4.10"), "O"),
    (oid("2.5.4.11"), "OU"),
    (COMMON_NAME, "CN"),
    (oid("1.2.840.113549.1.9.1"), "emailAddress"),
    (oid("0.9.2342.19200300.100.1.25"), "DC"),
    (oid("0.9.2342.19200300.100.1.1"), "UID"),
    (oid("2.5.4.5"), "serialNumber"),
    (oid("2.5.4.4"), "SN"),
    (oid("2.5.4.42"), "GN"),
    (oid("2.5.4.43"), "initials"),
    (oid("2.5.4.12"), "title"),
    (oid("2.5.4.41"), "name"),
    (oid("2.5.4.46"), "dnQualifier"),
];

const COMMON_NAME: ObjectIdentifier = oid("2.5.4.3");

/// X.520 upper bounds, in characters.
const FIELD_MAX: usize = 64;
const PLACE_MAX: usize = 128;

impl Subject {
    /// `C, ST, L, O, OU, CN, emailAddress`, with the string types OpenSSL would choose.
    ///
    /// # Errors
    /// [`PkiError::BadRequest`] for a field that its type cannot hold.
    pub(crate) fn to_name(&self, common_name: &str) -> Result<Name, PkiError> {
        let refuse = |problem: String| PkiError::BadRequest { name: common_name.to_owned(), problem };
        let org = match self {
            Self::CnOnly => &Organisation::default(),
            Self::Org(org) => org,
            Self::SameAs(der) => {
                return Name::from_der(der).map_err(|_| refuse("its subject cannot be read".into()));
            }
        };
        if !matches!(org.country.as_bytes(), [] | [b'A'..=b'Z', b'A'..=b'Z']) {
            return Err(refuse(format!("the country is two capital letters, not {:?}", org.country)));
        }
        if !org.email.is_ascii() {
            return Err(refuse("the e-mail address is not ASCII".into()));
        }
        let fields = [
            (&org.country[..], 2),
            (&org.province, PLACE_MAX),
            (&org.city, PLACE_MAX),
            (&org.organisation, FIELD_MAX),
            (&org.unit, FIELD_MAX),
            (common_name, FIELD_MAX),
            (&org.email, PLACE_MAX),
        ];
        let mut rdns = RdnSequence::default();
        for ((value, max), (oid, short)) in fields.into_iter().zip(ATTRIBUTES) {
            if value.chars().count() > max || value.chars().any(char::is_control) {
                return Err(refuse(format!(
                    "{short} has at most {max} characters, none of them control characters"
                )));
            }
            if !value.is_empty() {
                rdns.push(rdn(oid, short, value).map_err(|_| refuse(format!("{short} cannot be encoded")))?);
            }
        }
        let der = rdns.to_der().map_err(|_| refuse("it cannot be encoded".into()))?;
        Name::from_der(&der).map_err(|_| refuse("it cannot be encoded".into()))
    }
}

/// The one-line form of OpenSSL 3 (`X509_NAME_oneline`): `/C=UK/CN=name`; `+` between the parts of one RDN, a backslash
/// before `/` and `+` in a value, bytes outside printable ASCII as `\xHH`. A backslash itself stays as it is.
///
/// # Errors
/// The Name cannot be decoded.
pub(crate) fn one_line(subject_der: &[u8]) -> Result<String, PkiError> {
    let name = Name::from_der(subject_der).map_err(|_| PkiError::Crypto { act: "reading a subject" })?;
    let mut out = String::new();
    for rdn in name.iter_rdn() {
        for (at, attribute) in rdn.iter().enumerate() {
            let known = ATTRIBUTES.iter().find(|(oid, _)| *oid == attribute.oid);
            let short = known.map_or_else(|| attribute.oid.to_string(), |(_, short)| (*short).to_owned());
            let _ = write!(out, "{}{short}=", if at == 0 { '/' } else { '+' });
            text_octets(&attribute.value).into_iter().for_each(|octet| push_escaped(&mut out, octet));
        }
    }
    Ok(out)
}

fn push_escaped(out: &mut String, octet: u8) {
    match octet {
        b'/' | b'+' => out.extend(['\\', char::from(octet)]),
        b' '..=b'~' => out.push(char::from(octet)),
        _ => {
            let _ = write!(out, "\\x{octet:02X}");
        }
    }
}

/// The value of the last `CN` in a one-line subject, escapes undone. Older OpenSSL did not escape `/`, so a separator is
/// one only if a known attribute follows it.
pub(crate) fn common_name_of(one_line: &str) -> Option<String> {
    let line = one_line.as_bytes();
    let begins = |at: &usize| {
        matches!(&line[*at..], [b'/' | b'+', b'C', b'N', b'=', ..]) && (*at == 0 || line[*at - 1] != b'\\')
    };
    let mut rest = &line[(0..line.len()).rev().find(begins)? + "/CN=".len()..];
    let mut octets = Vec::new();
    while let Some((first, tail)) = rest.split_first() {
        if matches!(first, b'/' | b'+') && begins_attribute(tail) {
            break;
        }
        let (octet, length) = unescape(rest).unwrap_or((*first, 1));
        octets.push(octet);
        rest = &rest[length..];
    }
    String::from_utf8(octets).ok()
}

/// `\xHH`, `\/` or `\+` at the beginning: the octet meant and the length of the escape.
fn unescape(text: &[u8]) -> Option<(u8, usize)> {
    match text {
        [b'\\', b'x', high, low, ..] => {
            let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            Some((digit(*high)? << 4 | digit(*low)?, 4))
        }
        [b'\\', meant @ (b'/' | b'+'), ..] => Some((*meant, 2)),
        _ => None,
    }
}

fn begins_attribute(rest: &[u8]) -> bool {
    let value = |short: &str| rest.strip_prefix(short.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
    ATTRIBUTES.iter().any(|(_, short)| value(short))
}

fn rdn(oid: ObjectIdentifier, short: &str, value: &str) -> x509_cert::der::Result<RelativeDistinguishedName> {
    let value = match short {
        "C" => Any::encode_from(&PrintableStringRef::new(value)?)?,
        "emailAddress" => Any::encode_from(&Ia5StringRef::new(value)?)?,
        _ => Any::encode_from(&Utf8StringRef::new(value)?)?,
    };
    RelativeDistinguishedName::try_from(vec![AttributeTypeAndValue { oid, value }])
}

/// OpenSSL shows only the low bytes of a 16-bit string when all the high ones are zero; anything else byte by byte.
fn text_octets(value: &Any) -> Vec<u8> {
    let octets = value.value();
    let (units, odd) = octets.as_chunks::<2>();
    if value.tag() == Tag::BmpString && odd.is_empty() && units.iter().all(|unit| unit[0] == 0) {
        return units.iter().map(|unit| unit[1]).collect();
    }
    octets.to_vec()
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn org() -> Subject {
        Subject::Org(Organisation {
            country: "UK".into(),
            province: "London".into(),
            city: "London".into(),
            organisation: "myorg".into(),
            unit: "MQTT".into(),
            email: "info@myorg.com".into(),
        })
    }

    #[test]
    fn the_one_line_form_is_openssls() {
        let line = |subject: Subject, cn| one_line(&subject.to_name(cn).unwrap().to_der().unwrap()).unwrap();
        assert_eq!(
            line(org(), "tasmota_kitchen"),
            "/C=UK/ST=London/L=London/O=myorg/OU=MQTT/CN=tasmota_kitchen/emailAddress=info@myorg.com"
        );
        assert_eq!(line(Subject::CnOnly, "küche"), "/CN=k\\xC3\\xBCche");
    }

    #[test]
    fn the_common_name_is_found_in_it() {
        for (line, name) in [
            ("/C=UK/CN=mqtt.myorg.com/emailAddress=x@y", Some("mqtt.myorg.com")),
            ("/CN=k\\xC3\\xBCche", Some("küche")),
            ("/CN=a/b", Some("a/b")),
            ("/CN=a\\/b\\+CN=c/OU=x", Some("a/b+CN=c")),
            ("/CN=y+OU=x", Some("y")),
            ("/OU=x+CN=y", Some("y")),
            ("/CN=küche", Some("küche")),
            ("/CN=a\\xZZ", Some("a\\xZZ")),
            ("/CN=a\\x", Some("a\\x")),
            ("/O=x", None),
        ] {
            assert_eq!(common_name_of(line).as_deref(), name, "{line}");
        }
    }

    #[test]
    fn fields_that_cannot_be_are_refused() {
        let wrong = |change: fn(&mut Organisation)| {
            let Subject::Org(mut org) = org() else { unreachable!("org() is Org") };
            change(&mut org);
            Subject::Org(org).to_name("x").unwrap_err().to_string()
        };
        assert!(wrong(|org| org.country = "uk".into()).contains("two capital letters"));
        assert!(wrong(|org| org.email = "ü@x".into()).contains("ASCII"));
        assert!(wrong(|org| org.unit = "x".repeat(65)).contains("OU has at most 64"));
        assert!(wrong(|org| org.city = "a\tb".into()).contains("control"));
    }

    proptest! {
        #[test]
        fn any_line_can_be_searched(line in ".{0,60}") {
            let _ = common_name_of(&line);
            let _ = common_name_of(&format!("/CN={line}"));
        }
    }
}
