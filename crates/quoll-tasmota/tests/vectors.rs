//! The shared vectors: TLSKey texts, the ESP32's file, fingerprints, ClientHello records.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::{bytes, der, shared, shared_text, vectors};
use quoll_tasmota::{
    Command, Fingerprint, FingerprintError, Mac, Reply, Road, Stored, TlsKey1, TlsKey2, TlsKeyError,
    virtual_device::{
        Chip, Firmware, Flash, Machine, Now, VirtualProfile,
        tls::{ClientAuth, MaxFragment, TlsClient, TlsSettings, Trust},
    },
};

fn now() -> Now {
    Now { up: std::time::Duration::ZERO, utc: 1_795_359_210 }
}

fn fresh(chip: Chip) -> Machine {
    let profile = VirtualProfile::new(chip, Firmware::ClientCert, Mac([2, 0, 0, 0xA1, 0xB2, 0xC3]));
    let flash = Flash::factory(&profile);
    Machine::boot(profile, flash, "127.0.0.1:80".parse().unwrap(), now())
}

fn ask(machine: &mut Machine, command: &Command) -> Reply {
    let answers = machine.command(command.text(), now());
    Reply::parse(quoll_tasmota::virtual_device::merged(&answers).as_bytes()).unwrap()
}

#[test]
fn tls_key_texts_are_those_of_the_vectors_and_an_esp32_stores_the_same_file() {
    let vectors = vectors("tlskey.json");
    let scalar: [u8; 32] = bytes(vectors["scalar_hex"].as_str().unwrap()).try_into().unwrap();
    let key = TlsKey1::new(&scalar).unwrap();
    assert_eq!(*key.base64(), vectors["tlskey1_base64"].as_str().unwrap());
    for row in vectors["certs"].as_array().unwrap() {
        let name = row["cert_file"].as_str().unwrap();
        let certificate = der(&shared_text(&format!("facts/vectors/{name}")));
        assert_eq!(certificate.len() as u64, row["der_len"].as_u64().unwrap());
        let certificate = TlsKey2::new(&certificate, Road::Http).unwrap();
        certificate.belongs_to(&key).unwrap();
        assert_eq!(certificate.base64(), row["tlskey2_base64"].as_str().unwrap());
        let command = Command::tls_key2(&certificate);
        assert_eq!(command.text().len() as u64, row["tlskey2_command_chars"].as_u64().unwrap());

        let mut device = fresh(Chip::Esp32);
        let expected = vectors["tlskey1_expected_reply_fresh_device"].to_string();
        let expected = Reply::parse(expected.as_bytes()).unwrap().tls_key().unwrap();
        assert_eq!(ask(&mut device, &Command::tls_key1(&key)).tls_key(), Ok(expected));
        let expected = Reply::parse(row["expected_reply"].to_string().as_bytes()).unwrap().tls_key().unwrap();
        assert_eq!(ask(&mut device, &command).tls_key(), Ok(expected));
        assert_eq!(certificate.expected(), expected);
        let (_, flash) = device.parts();
        let file = flash.keys.unwrap().file();
        assert_eq!(
            file[..80],
            bytes(row["esp32_tlskey_file_first_80_bytes_hex"].as_str().unwrap()),
            "{name}"
        );
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &file);
        assert_eq!(sum.as_ref(), bytes(row["esp32_tlskey_file_sha256"].as_str().unwrap()), "{name}");
    }
}

#[test]
fn the_guide_s_own_script_gives_the_same_lines() {
    for name in ["tasmota_kitchen", "tasmota_garage", "tasmota_zero"] {
        let expected = shared_text(&format!("fixtures/tlskeys/{name}.expected.txt"));
        let values: Vec<&str> =
            expected.lines().filter_map(|line| line.split_once(' ')).map(|pair| pair.1).collect();
        let identity = common::certificates::Identity {
            certificate: shared(&format!("fixtures/tlskeys/{name}.cert.pem")),
            key: shared(&format!("fixtures/tlskeys/{name}.key.pem")),
        };
        let key = TlsKey1::new(&identity.scalar()).unwrap();
        let certificate = TlsKey2::new(&identity.der(), Road::Http).unwrap();
        certificate.belongs_to(&key).unwrap();
        assert_eq!([key.base64().as_str(), certificate.base64().as_str()], values[..], "{name}");
    }
}

#[test]
fn a_certificate_too_long_for_its_road_is_refused_with_the_reason() {
    let certificate = der(&shared_text("fixtures/tlskeys/tasmota_kitchen.cert.pem"));
    assert_eq!(certificate.len(), 816);
    let cases = [
        (Road::Http, Ok(())),
        (Road::Store, Ok(())),
        (Road::Serial, Err(TlsKeyError::TooLong { bytes: 816, limit: 591, road: Road::Serial })),
        (Road::Mqtt { topic_chars: 27 }, Ok(())),
        (
            Road::Mqtt { topic_chars: 150 },
            Err(TlsKeyError::TooLong { bytes: 816, limit: 783, road: Road::Mqtt { topic_chars: 150 } }),
        ),
    ];
    for (road, expected) in cases {
        assert_eq!(TlsKey2::new(&certificate, road).map(drop), expected, "{road}");
    }
    assert_eq!(Road::Mqtt { topic_chars: 27 }.certificate_limit(), 876);
    let error = TlsKey2::new(&certificate, Road::Serial).unwrap_err();
    assert!(error.to_string().contains("816") && error.to_string().contains("591") && error.hint().is_some());
    assert_eq!(
        TlsKey2::new(&certificate[..300], Road::Http),
        Err(TlsKeyError::NotACertificate { bytes: 300 })
    );
    let server = der(&shared_text("facts/vectors/server-rsa2048.pem"));
    assert_eq!(TlsKey2::new(&server, Road::Http), Err(TlsKeyError::NotP256Certificate));
}

#[test]
fn a_key_that_is_no_scalar_or_not_the_certificate_s_is_refused() {
    assert_eq!(TlsKey1::new(&[0; 32]).unwrap_err(), TlsKeyError::NotAP256Scalar);
    assert_eq!(TlsKey1::new(&[0xFF; 32]).unwrap_err(), TlsKeyError::NotAP256Scalar);
    let other = TlsKey1::new(&[7; 32]).unwrap();
    let certificate = der(&shared_text("fixtures/tlskeys/tasmota_kitchen.cert.pem"));
    let certificate = TlsKey2::new(&certificate, Road::Http).unwrap();
    assert_eq!(certificate.belongs_to(&other), Err(TlsKeyError::Mismatch));
    assert_eq!(format!("{other:?}"), "TlsKey1(****)");
    assert_eq!(certificate.expected(), Stored { key: Some(32), certificate: Some(816) });
}

#[test]
fn fingerprints_are_those_of_the_vectors() {
    let mut checked = 0;
    for row in vectors("fingerprints.json")["vectors"].as_array().unwrap() {
        let certificate = der(&shared_text(&format!("facts/vectors/{}", row["file"].as_str().unwrap())));
        let found = Fingerprint::of_certificate(&certificate);
        let Some(expected) = row["fingerprint_v2"].as_str() else {
            assert_eq!(found, Err(FingerprintError::NotRsa));
            continue;
        };
        assert_eq!(found.unwrap().to_string(), expected);
        let field = |name: &str| bytes(row[name].as_str().unwrap());
        let with_sign_byte = [vec![0], field("n_hex")].concat();
        assert_eq!(Fingerprint::of_rsa(&with_sign_byte, &field("e_hex")).unwrap().to_string(), expected);
        assert_ne!(expected, row["fingerprint_v1_obsolete"].as_str().unwrap());
        checked += 1;
    }
    assert_eq!(checked, 3);
}

#[test]
fn the_client_hello_is_the_firmware_s_byte_for_byte() {
    let rows = vectors("client-hello.json");
    let rows = rows["hellos"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    for row in rows {
        let profile = row["profile"].as_str().unwrap();
        let expected = bytes(row["record_hex"].as_str().unwrap());
        // Record header 5, handshake header 4, version 2, then the random.
        let random: [u8; 32] = expected[11..43].try_into().unwrap();
        let settings = TlsSettings {
            host: if profile.contains("IP literal") { "192.168.1.10" } else { "broker.test" }.into(),
            fragment: if profile.starts_with("ESP8266") {
                MaxFragment::Bytes1024
            } else {
                MaxFragment::Bytes2048
            },
            ecdsa: profile.contains("SetOption165 1"),
            rsa_4096: false,
            trust: Trust::Anchors([].into()),
            now: 0,
            client_auth: ClientAuth::NotCompiled,
        };
        let mut client = TlsClient::new(settings.clone(), random);
        assert_eq!(client.output(), expected, "{profile}");
        // Fingerprint mode offers RSA alone, whatever SetOption165 says.
        let pinned = TlsSettings { trust: Trust::Fingerprints([[1; 20]; 2]), ecdsa: true, ..settings };
        let hello = TlsClient::new(pinned, random).output();
        assert_eq!(hello[44..48], [0x00, 0x02, 0xC0, 0x2F], "{profile}");
    }
}

#[test]
fn record_limits_are_those_of_the_two_chips() {
    for (fragment, payload) in [(MaxFragment::Bytes1024, 1344), (MaxFragment::Bytes2048, 2368)] {
        assert_eq!(fragment.longest_payload(), payload);
    }
}
