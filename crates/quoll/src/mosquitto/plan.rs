//! The files that Mosquitto is to have, with owners and modes: the guide's (§5), its key never readable by others.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::place::{Listen, Owner};

/// What the folder of the CA has for Mosquitto.
pub(crate) struct Material {
    /// The server's name, which is its files' name.
    pub(crate) name: String,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: Zeroizing<String>,
    pub(crate) crl: Vec<u8>,
}

/// A file that is wanted.
pub(crate) struct Wanted {
    pub(crate) path: PathBuf,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<Owner>,
}

/// Files, and the folders that they lie in.
pub(crate) struct Plan {
    /// Folder, mode and owner; a mode of `None` is left as it is.
    pub(crate) folders: Vec<(PathBuf, Option<u32>, Option<Owner>)>,
    /// The configuration last: where it is, everything that it names is there.
    pub(crate) files: Vec<Wanted>,
}

impl Plan {
    /// Everything below `base`, with a listener there. Where other files let everybody in (`others_open`), ours says nothing of
    /// that, because it would count for their listeners too; ours demands a certificate in any case.
    pub(crate) fn new(
        base: &Path,
        material: &Material,
        listen: Listen,
        owner: Option<Owner>,
        others_open: bool,
    ) -> Self {
        let anchors = base.join("ca_certificates");
        let certs = base.join("certs");
        let conf_d = base.join("conf.d");
        let ca = anchors.join("quoll-ca.crt");
        let crl = anchors.join("quoll-crl.pem");
        let certificate = certs.join(format!("{}.crt", material.name));
        let key = certs.join(format!("{}.key", material.name));
        let address = listen.address.map(|address| format!(" {address}")).unwrap_or_default();
        let conf = format!(
            "# Written by `quoll mosquitto setup`, and written anew by it: your own lines belong in another file.\n\
             listener {port}{address}\n\
             cafile {ca}\n\
             certfile {certificate}\n\
             keyfile {key}\n\
             crlfile {crl}\n\
             tls_version tlsv1.2\n\
             require_certificate true\n\
             use_identity_as_username true\n\
             {anonymous}",
            port = listen.port,
            ca = ca.display(),
            certificate = certificate.display(),
            key = key.display(),
            crl = crl.display(),
            anonymous = if others_open { "" } else { "allow_anonymous false\n" },
        );
        let wanted = |path: PathBuf, bytes: &[u8]| Wanted {
            path,
            bytes: Zeroizing::new(bytes.to_vec()),
            mode: 0o400,
            owner,
        };
        // Who is not root could not write into a folder of 0500 a second time.
        let folder_mode = if owner.is_some() { 0o500 } else { 0o700 };
        Self {
            folders: vec![
                (anchors, Some(folder_mode), owner),
                (certs, Some(folder_mode), owner),
                (conf_d.clone(), None, None),
            ],
            files: vec![
                wanted(ca, material.ca.as_bytes()),
                wanted(crl, &material.crl),
                wanted(certificate, material.certificate.as_bytes()),
                wanted(key, material.key.as_bytes()),
                Wanted {
                    path: conf_d.join("quoll.conf"),
                    bytes: Zeroizing::new(conf.into_bytes()),
                    mode: 0o644,
                    owner: None,
                },
            ],
        }
    }

    /// What would be done: act, path, mode.
    pub(crate) fn acts(&self) -> Vec<(&'static str, PathBuf, String)> {
        let folders = self.folders.iter().filter_map(|(path, mode, owner)| {
            let act = match fs::metadata(path) {
                Err(_) => "make",
                Ok(there) if mode.is_some_and(|mode| differs(&there, mode, *owner)) => "change modes",
                Ok(_) => return None,
            };
            Some((act, path.clone(), format!("{:04o}", mode.unwrap_or(0o755))))
        });
        let files = self
            .files
            .iter()
            .map(|wanted| (wanted.act(), wanted.path.clone(), format!("{:04o}", wanted.mode)));
        folders.chain(files).collect()
    }

    /// Whether every file and folder is as wanted.
    pub(crate) fn is_done(&self) -> bool {
        self.acts().iter().all(|(act, ..)| *act == "keep")
    }
}

impl Wanted {
    /// `write`, `replace`, `change modes` or `keep`.
    pub(crate) fn act(&self) -> &'static str {
        let Ok(there) = fs::symlink_metadata(&self.path) else { return "write" };
        let same = there.is_file()
            && fs::read(&self.path)
                .map(Zeroizing::new)
                .is_ok_and(|bytes| bytes.as_slice() == self.bytes.as_slice());
        if !same {
            "replace"
        } else if differs(&there, self.mode, self.owner) {
            "change modes"
        } else {
            "keep"
        }
    }
}

fn differs(there: &fs::Metadata, mode: u32, owner: Option<Owner>) -> bool {
    there.permissions().mode() & 0o7777 != mode
        || owner.is_some_and(|owner| (owner.uid, owner.gid) != (there.uid(), there.gid()))
}
