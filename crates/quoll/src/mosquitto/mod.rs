//! The Mosquitto that somebody has already: set up with our certificates, tried out, reloaded, put back if it fails.
//!
//! | file | what is in it |
//! |---|---|
//! | [`place`] | its folder as it is: account, configuration files, listeners |
//! | [`plan`] | the files that are wanted, with owners and modes |
//! | [`trial`] | the whole configuration in a copy on loopback ports, with the real `mosquitto` |
//! | [`install`] | the files put there, and taken back |
//! | [`service`] | restart or reload, by whoever runs it |
//! | [`proof`], [`own_client`] | a real client that gets in, and one that does not; Quoll's own where there is no `mosquitto_pub` |
//!
//! Not here: running a `mosquitto.conf` with Quoll's own broker, which is [`crate::broker`].

pub(crate) mod install;
pub(crate) mod own_client;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod proof;
pub(crate) mod service;
pub(crate) mod trial;
