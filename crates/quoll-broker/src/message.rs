//! An accepted PUBLISH, shared by everybody it goes to.

/// A message.
#[derive(Debug)]
pub struct Message {
    _private: (),
}
