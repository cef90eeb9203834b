//! Which names a CA may certify (nameConstraints, RFC 5280 §4.2.1.10), applied as OpenSSL applies it: what lies outside is
//! refused by every OpenSSL and by rustls, so it is refused before it is signed.
//! What it is not: a chain verifier; it looks at one certificate and one CA.

use std::collections::BTreeSet;

use x509_parser::{
    der_parser::oid,
    extensions::{GeneralName, ParsedExtension, SubjectAlternativeName},
    prelude::{FromDer, X509Certificate},
    x509::X509Name,
};

use crate::certificate::Certificate;

/// Why nobody would accept `certificate` under `ca`: a phrase for each name of it that the CA may not certify. Empty if there
/// is none.
pub(crate) fn outside(certificate: &Certificate, ca: &Certificate) -> Vec<String> {
    if !ca.extensions.constrains_names {
        return Vec::new();
    }
    let Ok((_, parsed)) = X509Certificate::from_der(certificate.der()) else {
        return vec!["it cannot be read".into()];
    };
    let alt_names = parsed.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(names),
        _ => None,
    });
    judged(&names_of(parsed.subject(), alt_names), ca)
}

/// As [`outside`], of a certificate that is not made yet: its subject, and its alternative names, both in DER.
pub(crate) fn would_be_outside(subject: &[u8], alt_names: Option<&[u8]>, ca: &Certificate) -> Vec<String> {
    if !ca.extensions.constrains_names {
        return Vec::new();
    }
    let alt_names = alt_names.map(SubjectAlternativeName::from_der).transpose();
    let (Ok((_, subject)), Ok(alt_names)) = (X509Name::from_der(subject), alt_names) else {
        return vec!["its names cannot be read".into()];
    };
    judged(&names_of(&subject, alt_names.as_ref().map(|(_, names)| names)), ca)
}

fn judged(names: &[Name<'_>], ca: &Certificate) -> Vec<String> {
    let Ok((_, ca)) = X509Certificate::from_der(ca.der()) else {
        return vec!["the CA cannot be read".into()];
    };
    let Some((permitted, excluded)) = subtrees(&ca) else {
        return vec!["the limits of the CA's names cannot be read".into()];
    };
    let outside = names.iter().filter_map(|name| {
        let mut same = permitted.iter().filter(|base| name.is_ruled_by(base)).peekable();
        if same.peek().is_some() && !same.any(|base| name.lies_within(base)) {
            return Some(format!("{} is not among the names that the CA may certify", name.told()));
        }
        let out = excluded.iter().any(|base| name.lies_within(base));
        out.then(|| format!("{} is among the names that the CA may not certify", name.told()))
    });
    outside.collect()
}

/// Whether `ca` limits subject names: OpenSSL applies that, while rustls, and with it Quoll's broker, refuses every
/// certificate of such a CA.
pub(crate) fn limits_subjects(ca: &Certificate) -> bool {
    let Ok((_, parsed)) = X509Certificate::from_der(ca.der()) else { return false };
    subtrees(&parsed).is_some_and(|(permitted, excluded)| {
        permitted.iter().chain(&excluded).any(|base| matches!(base, GeneralName::DirectoryName(_)))
    })
}

type Bases<'a> = Vec<GeneralName<'a>>;

/// What is permitted, and what is excluded.
fn subtrees<'a>(ca: &X509Certificate<'a>) -> Option<(Bases<'a>, Bases<'a>)> {
    ca.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::NameConstraints(limits) => {
            let bases = |trees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'a>>>| {
                trees.iter().flatten().map(|tree| tree.base.clone()).collect()
            };
            Some((bases(&limits.permitted_subtrees), bases(&limits.excluded_subtrees)))
        }
        _ => None,
    })
}

/// A name of a certificate that a constraint may rule.
enum Name<'a> {
    Subject(&'a X509Name<'a>),
    Dns(&'a str),
    /// The common name of a certificate without dNSName, where it looks like a host name: OpenSSL takes it for one.
    HostLike(&'a str),
    Ip(&'a [u8]),
    Email(&'a str),
    Uri(&'a str),
    /// Of a kind that is not compared here.
    Other,
}

fn names_of<'a>(
    subject: &'a X509Name<'a>,
    alt_names: Option<&'a SubjectAlternativeName<'a>>,
) -> Vec<Name<'a>> {
    let mut out = Vec::new();
    if subject.iter().next().is_some() {
        out.push(Name::Subject(subject));
    }
    out.extend(subject.iter_email().filter_map(|email| email.as_str().ok()).map(Name::Email));
    let mut hosts = false;
    for name in alt_names.iter().flat_map(|names| &names.general_names) {
        hosts |= matches!(name, GeneralName::DNSName(_));
        out.push(match name {
            GeneralName::DNSName(dns) => Name::Dns(dns),
            GeneralName::IPAddress(octets) => Name::Ip(octets),
            GeneralName::RFC822Name(email) => Name::Email(email),
            GeneralName::URI(uri) => Name::Uri(uri),
            GeneralName::DirectoryName(name) => Name::Subject(name),
            _ => Name::Other,
        });
    }
    if !hosts {
        let common = subject.iter_common_name().filter_map(|name| name.as_str().ok());
        out.extend(common.filter(|name| looks_like_host(name)).map(Name::HostLike));
    }
    out
}

/// Two labels or more, of letters, digits, `_` and `-`: what OpenSSL holds for a host name.
fn looks_like_host(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'-'))
    };
    name.contains('.') && name.split('.').all(label)
}

impl Name<'_> {
    fn told(&self) -> String {
        match self {
            Self::Subject(name) => format!("the subject {name}"),
            Self::Dns(name) => format!("the host name {name}"),
            Self::HostLike(name) => format!("the common name {name}, which is taken for a host name,"),
            Self::Ip(octets) => match crate::certificate::ip_address(octets) {
                Some(ip) => format!("the address {ip}"),
                None => "an address of odd length".into(),
            },
            Self::Email(name) => format!("the e-mail address {name}"),
            Self::Uri(name) => format!("the address {name}"),
            Self::Other => "a name of another kind".into(),
        }
    }

    /// Whether `base` says something about names of this kind.
    fn is_ruled_by(&self, base: &GeneralName<'_>) -> bool {
        match self {
            Self::Subject(_) => matches!(base, GeneralName::DirectoryName(_)),
            Self::Dns(_) | Self::HostLike(_) => matches!(base, GeneralName::DNSName(_)),
            Self::Ip(_) => matches!(base, GeneralName::IPAddress(_)),
            Self::Email(_) => matches!(base, GeneralName::RFC822Name(_)),
            Self::Uri(_) => matches!(base, GeneralName::URI(_)),
            Self::Other => !matches!(
                base,
                GeneralName::DirectoryName(_)
                    | GeneralName::DNSName(_)
                    | GeneralName::IPAddress(_)
                    | GeneralName::RFC822Name(_)
                    | GeneralName::URI(_)
            ),
        }
    }

    fn lies_within(&self, base: &GeneralName<'_>) -> bool {
        match (self, base) {
            (Self::Subject(name), GeneralName::DirectoryName(base)) => begins_with(name, base),
            (Self::Dns(name) | Self::HostLike(name), GeneralName::DNSName(base)) => is_below(name, base),
            (Self::Ip(address), GeneralName::IPAddress(base)) => {
                let (net, mask) = base.split_at(base.len() / 2);
                address.len() * 2 == base.len()
                    && address
                        .iter()
                        .zip(net)
                        .zip(mask)
                        .all(|((octet, net), mask)| octet & mask == net & mask)
            }
            (Self::Email(name), GeneralName::RFC822Name(base)) => mail_lies_within(name, base),
            (Self::Uri(name), GeneralName::URI(base)) => host_of(name).is_some_and(|host| {
                if base.starts_with('.') { is_below(host, base) } else { host.eq_ignore_ascii_case(base) }
            }),
            _ => false,
        }
    }
}

/// The base itself or anything with labels before it; a base that begins with a dot is what stands below it only.
fn is_below(name: &str, base: &str) -> bool {
    let (name, base) = (name.as_bytes(), base.as_bytes());
    let Some(before) = name.len().checked_sub(base.len()) else { return false };
    let whole = base.is_empty() || base[0] == b'.' || before == 0 || name[before - 1] == b'.';
    whole && name[before..].eq_ignore_ascii_case(base)
}

/// A base is one mailbox, all of a host, or (with a dot before) all of the hosts below.
fn mail_lies_within(name: &str, base: &str) -> bool {
    let Some((local, host)) = name.rsplit_once('@') else { return false };
    match base.rsplit_once('@') {
        Some((base_local, base_host)) => {
            (base_local.is_empty() || base_local == local) && host.eq_ignore_ascii_case(base_host)
        }
        None if base.starts_with('.') => is_below(host, base),
        None => host.eq_ignore_ascii_case(base),
    }
}

fn host_of(uri: &str) -> Option<&str> {
    let rest = uri.split_once("://")?.1;
    rest.split([':', '/']).next().filter(|host| !host.is_empty())
}

/// Whether the first parts of `name` are those of `base`, letter case and repeated spaces aside (RFC 5280 §7.1).
fn begins_with(name: &X509Name<'_>, base: &X509Name<'_>) -> bool {
    let mut parts = name.iter();
    base.iter().all(|wanted| parts.next().is_some_and(|part| folded(part) == folded(wanted)))
}

fn folded(part: &x509_parser::x509::RelativeDistinguishedName<'_>) -> BTreeSet<(String, Vec<u8>)> {
    let value = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| match attribute.as_str() {
        Ok(text) => {
            text.split_ascii_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase().into_bytes()
        }
        Err(_) => attribute.as_slice().to_vec(),
    };
    part.iter().map(|attribute| (attribute.attr_type().to_id_string(), value(attribute))).collect()
}

/// nameConstraints is there.
pub(crate) fn is_constraint(extension: &x509_parser::extensions::X509Extension<'_>) -> bool {
    extension.oid == oid!(2.5.29.30)
}
