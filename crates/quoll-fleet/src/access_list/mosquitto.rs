//! The access list of the whole house as a Mosquitto ACL file (mosquitto.conf(5), `acl_file`).

use std::fmt::Write as _;

use super::Access;

/// The file's text: a section for each identity, in the order given. With `use_identity_as_username true` Mosquitto takes
/// the certificate's common name for the user, which is the name here.
#[must_use]
pub fn acl_file(sections: &[(String, Access)]) -> String {
    let mut text = String::from(
        "# Who may do what, as Quoll has it. Needs in mosquitto.conf: use_identity_as_username true\n\
         # Written by `quoll acl export`: changes belong there.\n",
    );
    for (name, access) in sections {
        // Writing to a String does not fail.
        let _ = write!(text, "\nuser {name}\n");
        for filter in &access.publish {
            let word = if access.subscribe.contains(filter) { "readwrite" } else { "write" };
            let _ = writeln!(text, "topic {word} {filter}");
        }
        for filter in access.subscribe.iter().filter(|filter| !access.publish.contains(filter)) {
            let _ = writeln!(text, "topic read {filter}");
        }
    }
    text
}
