//! Why a device did not come, read from its own log (facts §7.4).

use quoll_tasmota::tls_error;
use tokio::time::timeout;

use super::ask::Asker;
use super::error::Cause;
use super::target::BrokerTarget;
use crate::witness::WitnessError;

impl Asker<'_> {
    /// The device's own word where it has one, else the broker's.
    pub(crate) async fn cause(&self, broker: &BrokerTarget, witness: WitnessError) -> Cause {
        if let WitnessError::NoBroker { .. } = witness {
            return Cause::NoBroker(witness);
        }
        if self.stranger().await.is_some() {
            return Cause::Gone;
        }
        match timeout(self.patience.ask, self.console.log_lines()).await {
            Ok(Ok(lines)) => cause_in(&lines, broker).unwrap_or(Cause::Unknown(witness)),
            _ => Cause::Gone,
        }
    }
}

/// The last TLS error in a log, else the last return code for this broker.
fn cause_in(lines: &[String], broker: &BrokerTarget) -> Option<Cause> {
    if let Some(number) = lines.iter().rev().find_map(|line| tls_error::number_in(line)) {
        return Some(match tls_error::explain(number) {
            Some(row) => Cause::Tls { number, cause: row.cause, fix: row.fix },
            None => Cause::UnknownTls(number),
        });
    }
    let failed = format!("Connect failed to {}:{}, rc ", broker.host, broker.port);
    let code = |line: &String| {
        let (_, rest) = line.split_once(failed.as_str())?;
        rest.split(['.', ' ']).next()?.parse().ok()
    };
    lines.iter().rev().find_map(code).map(Cause::Mqtt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrol::CaKind;

    #[test]
    fn the_last_number_of_a_log_is_the_cause() {
        let broker = BrokerTarget {
            host: "hub.lan".into(),
            port: 8883,
            ca_kind: CaKind::Rsa,
            server_fingerprint: [7; 20],
            pinned_port: None,
        };
        let failed =
            |rest: &str| format!("10:00:03 MQT: Connect failed to hub.lan:8883, rc {rest}. Retry in 10 sec");
        for (name, lines, expected) in [
            ("nothing", vec![], None),
            ("another broker", vec!["MQT: Connect failed to old:1883, rc -2. Retry".to_owned()], None),
            ("refused", vec![failed("5")], Some(Cause::Mqtt(5))),
            (
                "tls first, then its echo",
                vec![
                    "MQT: TLS connection error: 54".to_owned(),
                    "MQT: TLS connection error: 9999".to_owned(),
                    failed("-2"),
                ],
                Some(Cause::UnknownTls(9999)),
            ),
        ] {
            assert_eq!(cause_in(&lines, &broker), expected, "{name}");
        }
        let known = cause_in(&["MQT: TLS connection error: 304".to_owned()], &broker);
        assert!(matches!(known, Some(Cause::Tls { number: 304, .. })), "{known:?}");
    }
}
