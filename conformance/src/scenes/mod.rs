//! Behaviour that all three versions share, written once with the version as argument.
//!
//! A scene is a test without its clause: the clause differs by version and stands where the scene is played, in
//! `tests/<version>/section_*.rs`, by way of [`scenes!`](crate::scenes!).

pub mod broken;
pub mod connect;
pub mod delivery;
pub mod framing;
pub mod keep_alive;
pub mod publish;
pub mod refusal;
pub mod resume;
pub mod retained;
pub mod session;
pub mod subscribe;
pub mod topics;
pub mod will;

/// Makes a test of each named scene: `scenes! { V311, /// [MQTT-3.1.0-2] \n connect::a_second_connect_…; }`.
#[macro_export]
macro_rules! scenes {
    ($version:ident, $($(#[$doc:meta])* $room:ident::$scene:ident;)+) => {
        $(
            $(#[$doc])*
            #[test]
            fn $scene() {
                conformance::scenes::$room::$scene($version);
            }
        )+
    };
}
