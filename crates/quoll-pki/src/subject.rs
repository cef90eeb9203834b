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

/// The one-line form of OpenSSL (`X509_NAME_oneline`): `/C=UK/CN=name`, bytes outside printable ASCII as `\xHH`.
///
/// # Errors
/// The Name cannot be decoded.
pub(crate) fn one_line(subject_der: &[u8]) -> Result<String, PkiError> {
    let name = Name::from_der(subject_der).map_err(|_| PkiError::Crypto { act: "reading a subject" })?;
    let mut out = String::new();
    for attribute in name.iter() {
        let known = ATTRIBUTES.iter().find(|(oid, _)| *oid == attribute.oid);
        let short = known.map_or_else(|| attribute.oid.to_string(), |(_, short)| (*short).to_owned());
        let _ = write!(out, "/{short}=");
        for byte in text_octets(&attribute.value) {
            match byte {
                b' '..=b'~' => out.push(char::from(byte)),
                _ => {
                    let _ = write!(out, "\\x{byte:02X}");
                }
            }
        }
    }
    Ok(out)
}

/// The value of the last `CN` in a one-line subject, `\xHH` undone.
pub(crate) fn common_name_of(one_line: &str) -> Option<String> {
    let start = one_line.rfind("/CN=")? + "/CN=".len();
    let value = &one_line[start..];
    let end = value.match_indices('/').map(|(at, _)| at).find(|at| begins_attribute(&value[at + 1..]));
    let mut octets = Vec::new();
    let mut rest = &value.as_bytes()[..end.unwrap_or(value.len())];
    while let Some((first, tail)) = rest.split_first() {
        let escaped = (*first == b'\\' && tail.first() == Some(&b'x')).then(|| tail.get(1..3)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        octets.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    String::from_utf8(octets).ok()
}

fn begins_attribute(rest: &str) -> bool {
    ATTRIBUTES.iter().any(|(_, short)| rest.strip_prefix(short).is_some_and(|rest| rest.starts_with('=')))
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
