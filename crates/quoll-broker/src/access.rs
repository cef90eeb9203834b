//! What a session may publish and receive: compiled topic permissions, carried by the session as a value.

/// Topic permissions of one identity.
#[derive(Clone, Debug, Default)]
pub struct Grants {
    _private: (),
}
