//! rumqttc with a client certificate, in TLS 1.2 and 1.3; what it does without TLS is in the conformance suite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rumqttc::{TlsConfiguration, Transport};

use crate::common::*;

/// The same in each version: the modules of rumqttc have the same names and no common trait.
macro_rules! talks {
    () => {
        pub(super) fn talks(server: &Server, tls: &'static rustls::SupportedProtocolVersion, id: &str) {
            let mut options = MqttOptions::new(id, "127.0.0.1", server.tls.port());
            options.set_keep_alive(Duration::from_secs(20));
            let config = Arc::new(pki().client_config(Some("lamp"), tls));
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
            let (client, mut connection) = Client::new(options, 32);
            client.subscribe(id, QoS::ExactlyOnce).unwrap();
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                client.publish(id, qos, false, vec![b'x'; 5000]).unwrap();
            }
            let until = Instant::now() + LONG;
            let mut heard = Vec::new();
            while heard.len() < 3 {
                let left = until.saturating_duration_since(Instant::now());
                let event = connection.recv_timeout(left).expect("an event in time").expect("a connection");
                if let Event::Incoming(Packet::Publish(publish)) = event {
                    heard.push((publish.qos as u8, publish.payload.len()));
                }
            }
            heard.sort_unstable();
            assert_eq!(heard, [(0, 5000), (1, 5000), (2, 5000)], "{id}");
        }

        /// Whether the handshake fails for one without a certificate.
        pub(super) fn is_refused(server: &Server) -> bool {
            let mut options = MqttOptions::new("nobody", "127.0.0.1", server.tls.port());
            let config = Arc::new(pki().client_config(None, &rustls::version::TLS12));
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
            let (_client, mut connection) = Client::new(options, 32);
            connection.recv_timeout(LONG).expect("an answer in time").is_err()
        }
    };
}

mod v311 {
    use rumqttc::{Client, Event, MqttOptions, Packet, QoS};

    use super::*;

    talks!();
}

mod v5 {
    use rumqttc::v5::mqttbytes::QoS;
    use rumqttc::v5::mqttbytes::v5::Packet;
    use rumqttc::v5::{Client, Event, MqttOptions};

    use super::*;

    talks!();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rumqttc_talks_over_tls_with_a_client_certificate() {
    let server = serve(|_| {}).await;
    std::thread::scope(|scope| {
        for (tls, name) in [(&rustls::version::TLS12, "12"), (&rustls::version::TLS13, "13")] {
            let server = &server;
            scope.spawn(move || v311::talks(server, tls, &format!("rumqttc-311-{name}")));
            scope.spawn(move || v5::talks(server, tls, &format!("rumqttc-5-{name}")));
        }
        scope.spawn(|| assert!(v311::is_refused(&server) && v5::is_refused(&server)));
    });
    server.handle.stop(LONG).await;
}
