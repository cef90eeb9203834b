//! Why and when a certificate was revoked, in Easy-RSA's spellings and in the CRL's numbers (RFC 5280 §5.3.1).

use std::{fmt, str::FromStr};

use time::OffsetDateTime;

use crate::serial::Serial;

/// The reasons `easyrsa revoke` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RevocationReason {
    /// `unspecified`
    #[default]
    Unspecified,
    /// `keyCompromise`: stolen or lost.
    KeyCompromise,
    /// `CACompromise`
    CaCompromise,
    /// `affiliationChanged`: given away.
    AffiliationChanged,
    /// `superseded`: replaced by a newer certificate.
    Superseded,
    /// `cessationOfOperation`: out of use.
    CessationOfOperation,
    /// `certificateHold`
    CertificateHold,
}

/// Reason and Easy-RSA's spelling, in the order of the CRL's numbers.
const REASONS: [(RevocationReason, &str); 7] = [
    (RevocationReason::Unspecified, "unspecified"),
    (RevocationReason::KeyCompromise, "keyCompromise"),
    (RevocationReason::CaCompromise, "CACompromise"),
    (RevocationReason::AffiliationChanged, "affiliationChanged"),
    (RevocationReason::Superseded, "superseded"),
    (RevocationReason::CessationOfOperation, "cessationOfOperation"),
    (RevocationReason::CertificateHold, "certificateHold"),
];

/// A text that is none of the reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a revocation reason; they are unspecified, keyCompromise, CACompromise, affiliationChanged, superseded, \
     cessationOfOperation, certificateHold"
)]
pub struct RevocationReasonError(String);

/// What a revocation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Which certificate.
    pub serial: Serial,
    /// Its common name, as far as `index.txt` tells.
    pub common_name: Option<String>,
    /// Since when it is revoked; earlier than now if it already was.
    pub at: OffsetDateTime,
    /// Why; the first reason given stands.
    pub reason: RevocationReason,
    /// True if it had been revoked before.
    pub already: bool,
}

/// What lifting a hold did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Which certificate.
    pub serial: Serial,
    /// Its common name, as far as `index.txt` tells.
    pub common_name: Option<String>,
    /// True if it was not on hold any more.
    pub already: bool,
}

impl RevocationReason {
    /// Every reason, in the order of the CRL's numbers.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::CertificateHold,
    ];

    /// What `index.txt` may hold besides: OpenSSL's spellings with a date or an OID behind them.
    pub(crate) fn from_index(text: &str) -> Option<Self> {
        match text {
            "keyTime" => Some(Self::KeyCompromise),
            "CAkeyTime" => Some(Self::CaCompromise),
            "holdInstruction" => Some(Self::CertificateHold),
            "removeFromCRL" => Some(Self::Unspecified),
            other => other.parse().ok(),
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = REASONS.iter().find(|row| row.0 == *self).expect("every reason has a row");
        f.write_str(row.1)
    }
}

impl FromStr for RevocationReason {
    type Err = RevocationReasonError;

    fn from_str(text: &str) -> Result<Self, RevocationReasonError> {
        match REASONS.iter().find(|row| row.1.eq_ignore_ascii_case(text)) {
            Some(row) => Ok(row.0),
            None => Err(RevocationReasonError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_spelled_as_easy_rsa_spells_it() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.to_string().parse(), Ok(reason));
        }
        assert!("stolen".parse::<RevocationReason>().unwrap_err().to_string().contains("keyCompromise"));
    }
}
