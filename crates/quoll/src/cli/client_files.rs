//! `quoll client add --for …`: files that the other program takes as they are, beside those that every client gets.
//! What it is not: an installation; nothing outside the client's folder is touched.

use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use quoll_fleet::client::ClientName;
use quoll_pki::{Certificate, Passphrase, Pkcs12Form, PrivateKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::failure::{Exit, Failure, Outcome, io_failure};
use crate::home::write_whole;
use crate::trouble;

/// Which ready files are wanted.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct ForArgs {
    /// Also write what this program takes as it is (may be repeated)
    #[arg(long = "for", value_enum, value_delimiter = ',', value_name = "PROGRAM")]
    programs: Vec<Program>,
    /// A file with the passphrase of the .p12 for a phone on its first line [default: it is asked for]
    #[arg(long, value_name = "FILE")]
    export_passphrase_file: Option<PathBuf>,
}

/// A program, or a kind of phone.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Program {
    /// mosquitto_pub and mosquitto_sub: a configuration folder
    Mosquitto,
    /// Home Assistant: what to enter where
    HomeAssistant,
    /// Node-RED: a flow to import
    NodeRed,
    /// Android 12 and later: a .p12 (AES)
    Android,
    /// iOS and older phones: a .p12 (3DES)
    Ios,
}

/// What was asked for, with the answers of a person: nothing is asked any more once the CA is at work.
pub(crate) struct Wanted {
    programs: Vec<Program>,
    passphrase: Option<Passphrase>,
}

impl ForArgs {
    /// Asks what has to be asked.
    pub(crate) fn ask(&self) -> Outcome<Wanted> {
        let phone = self.programs.iter().any(|program| matches!(program, Program::Android | Program::Ios));
        let passphrase = match phone {
            true => Some(super::ca_issue::export_passphrase(self.export_passphrase_file.as_ref())?),
            false => None,
        };
        Ok(Wanted { programs: self.programs.clone(), passphrase })
    }
}

/// A client with all that its files are made of.
pub(crate) struct Bundle<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) settings: &'a Settings,
    pub(crate) name: &'a ClientName,
    /// The CAs to trust: one, or two during a rollover.
    pub(crate) cas: &'a [Certificate],
    pub(crate) certificate: &'a Certificate,
    pub(crate) key: &'a PrivateKey,
}

impl Wanted {
    /// Writes the files; says which.
    pub(crate) fn write(&self, bundle: &Bundle<'_>) -> Outcome<Vec<PathBuf>> {
        let mut written = Vec::new();
        for program in &self.programs {
            match program {
                Program::Mosquitto => bundle.mosquitto(&mut written)?,
                Program::HomeAssistant => {
                    bundle.text("home-assistant.txt", &bundle.home_assistant(), &mut written)?;
                }
                Program::NodeRed => bundle.text("node-red.json", &bundle.node_red()?, &mut written)?,
                Program::Android => self.p12(bundle, "android", Pkcs12Form::Aes256, &mut written)?,
                Program::Ios => self.p12(bundle, "ios", Pkcs12Form::TripleDes, &mut written)?,
            }
        }
        Ok(written)
    }

    fn p12(&self, bundle: &Bundle<'_>, phone: &str, form: Pkcs12Form, written: &mut Vec<PathBuf>) -> Outcome {
        let pass = self.passphrase.as_ref().expect("it was asked for, because a phone is wanted");
        let shown = format!("{} at {}", bundle.name, bundle.settings.host);
        let p12 = bundle.key.to_pkcs12(
            &shown,
            bundle.certificate,
            &bundle.cas.iter().collect::<Vec<_>>(),
            pass,
            form,
        );
        let p12 = Zeroizing::new(p12.map_err(trouble::pki)?);
        let path = bundle.path(&format!("{}-{phone}.p12", bundle.name))?;
        write_whole(&path, &p12, 0o600, true)?;
        written.push(path);
        let text = format!(
            "1. Send ca.crt and {name}-{phone}.p12 to the phone, and delete them there and here when they are installed.\n\
             2. Open ca.crt: install it as a CA certificate.\n\
             3. Open {name}-{phone}.p12, or choose it in the MQTT app: its passphrase is the one you gave.\n\
             4. In the MQTT app: host {host}, port {port}, TLS on, client certificate {name}.\n",
            name = bundle.name,
            host = bundle.settings.host,
            port = bundle.settings.device_port(),
        );
        bundle.text(&format!("{phone}.txt"), &text, written)
    }
}

impl Bundle<'_> {
    /// A file of the folder, which is made.
    fn path(&self, file: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(file);
        let folder = path.parent().unwrap_or(self.folder);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| io_failure("make the folder", folder, &error))?;
        Ok(path)
    }

    fn text(&self, file: &str, text: &str, written: &mut Vec<PathBuf>) -> Outcome {
        let path = self.path(file)?;
        write_whole(&path, text.as_bytes(), 0o644, true)?;
        written.push(path);
        Ok(())
    }

    /// Where the client's files will lie, from anywhere.
    fn absolute(&self, file: &str) -> Outcome<String> {
        let path = self.folder.join(file);
        let path = std::path::absolute(&path).map_err(|error| io_failure("find", &path, &error))?;
        Ok(path.display().to_string())
    }

    /// Options, one a line, as mosquitto_sub(1) and mosquitto_pub(1) read them from `$XDG_CONFIG_HOME`.
    fn mosquitto(&self, written: &mut Vec<PathBuf>) -> Outcome {
        let name = self.name;
        let options = format!(
            "-h {host}\n-p {port}\n--cafile {ca}\n--cert {certificate}\n--key {key}\n",
            host = self.settings.host,
            port = self.settings.device_port(),
            ca = self.absolute("ca.crt")?,
            certificate = self.absolute(&format!("{name}.crt"))?,
            key = self.absolute(&format!("{name}.key"))?,
        );
        for program in ["mosquitto_sub", "mosquitto_pub", "mosquitto_rr"] {
            self.text(&format!("mosquitto/{program}"), &options, written)?;
        }
        Ok(())
    }

    fn home_assistant(&self) -> String {
        let (name, host, port) = (self.name, &self.settings.host, self.settings.device_port());
        format!(
            "Home Assistant: Settings, Devices & services, Add integration, MQTT, \"Enter MQTT broker details\";\n\
             switch on the advanced options (your profile, Advanced mode) to see all of these.\n\
             \n\
             Broker                              {host}\n\
             Port                                {port}\n\
             User name, password                 (empty: the certificate says who it is)\n\
             Use a client certificate            on\n\
             Upload client certificate file      {name}.crt\n\
             Upload private key file             {name}.key\n\
             Password for private key file       (empty)\n\
             Broker certificate validation       Custom\n\
             Upload custom CA certificate file   ca.crt\n\
             Ignore broker certificate validation  off\n\
             \n\
             Then add the integration \"Tasmota\": devices with SetOption19 0 appear by themselves.\n"
        )
    }

    /// A flow with broker, TLS configuration, and a node that shows all telemetry.
    fn node_red(&self) -> Outcome<String> {
        let name = self.name.as_str();
        // The same in every export of the same certificate, so that an import replaces it.
        let print = self.certificate.fingerprint_sha256();
        let id = |number: u8| {
            let tail: String = print[..7].iter().map(|octet| format!("{octet:02x}")).collect();
            format!("{number:02x}{tail}")
        };
        let (tab, tls, broker, source, shown) = (id(1), id(2), id(3), id(4), id(5));
        let flow = json!([
            {"id": tab, "type": "tab", "label": format!("MQTT as {name}"), "disabled": false, "info": ""},
            {"id": tls, "type": "tls-config", "name": format!("{name} at {}", self.settings.host),
             "cert": self.absolute(&format!("{name}.crt"))?, "key": self.absolute(&format!("{name}.key"))?,
             "ca": self.absolute("ca.crt")?, "certname": "", "keyname": "", "caname": "",
             "servername": self.settings.host, "verifyservercert": true, "alpnprotocol": ""},
            {"id": broker, "type": "mqtt-broker", "name": self.settings.host, "broker": self.settings.host,
             "port": self.settings.device_port().to_string(), "tls": tls, "usetls": true, "clientid": "",
             "autoConnect": true, "protocolVersion": "5", "keepalive": "60", "cleansession": true, "sessionExpiry": ""},
            {"id": source, "type": "mqtt in", "z": tab, "name": "", "topic": "tele/#", "qos": "0", "datatype": "auto-detect",
             "broker": broker, "nl": false, "rap": true, "rh": 0, "inputs": 0, "x": 130, "y": 80, "wires": [[shown]]},
            {"id": shown, "type": "debug", "z": tab, "name": "telemetry", "active": true, "tosidebar": true, "complete": "payload",
             "targetType": "msg", "x": 330, "y": 80, "wires": []},
        ]);
        serde_json::to_string_pretty(&flow)
            .map(|text| text + "\n")
            .map_err(|error| Failure::new(Exit::System, "cannot write the flow").why(error))
    }
}
