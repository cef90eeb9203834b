//! The devices we own: who they are, how they get an identity, how they lose it.
//!
//! | room | what is in it |
//! |---|---|
//! | [`device`], [`client`] | the nouns: a device and its life, an account of a person or program |
//! | [`name`], [`address`] | what a name and an address may be |
//! | [`registry`] | SQLite `fleet.db`: inventory, provisioning journal, audit trail |
//! | [`enrol`] | from a bare device to one that our broker saw with its certificate; [`plan`], [`step`], [`saved`] |
//! | [`campaign`] | many devices: found, planned, enrolled a few at a time, reported |
//! | [`issuer`], [`witness`] | what an enrolment needs from others: a certificate, and an eye at the broker |
//! | [`life`] | what happens to a device that is ours: adopted, changed, replaced |
//! | [`revoke`] | the way out |
//! | [`doctor`] | why a device is not online |
//! | [`access_list`] | who may publish and subscribe what; the answer at the broker's door |
//! | [`presence`] | who is online, folded from the broker's events |
//! | [`limits`] | every bound, with its reason |
//!
//! Knows no MQTT session and no socket of the broker. The program joins both wings.

pub mod access_list;
pub mod address;
pub mod campaign;
pub mod client;
pub mod device;
pub mod doctor;
pub mod enrol;
pub mod issuer;
pub mod life;
pub mod limits;
pub mod name;
pub mod plan;
pub mod presence;
pub mod registry;
pub mod revoke;

pub mod saved;
pub mod step;
pub mod witness;
