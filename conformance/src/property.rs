//! Properties of MQTT 5.0 as pairs of identifier and value. MQTT 5.0 §2.2.2.
//!
//! Knows the wire form of each identifier; does not know where one is allowed, since tests put them where they are not.

/// One property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Property {
    /// Identifier, a Variable Byte Integer that fits one byte in all that exist.
    pub id: u8,
    /// What it says.
    pub value: Value,
}

/// The wire forms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the standard's")]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    /// UTF-8 string or binary data: two bytes of length, then the bytes.
    Bytes(Vec<u8>),
    Pair(Vec<u8>, Vec<u8>),
}

macro_rules! properties {
    ($($id:literal $constant:ident $name:ident($form:ident: $type:ty);)*) => {
        $(
            #[doc = concat!("Identifier ", stringify!($id), ".")]
            pub const $constant: u8 = $id;
            #[doc = concat!("The property with identifier ", stringify!($id), ".")]
            pub fn $name(value: impl Into<$type>) -> Property {
                Property { id: $id, value: Value::$form(value.into()) }
            }
        )*
        fn form_of(id: u8) -> Option<Form> {
            match id {
                $($id => Some(Form::$form),)*
                0x26 => Some(Form::Pair),
                _ => None,
            }
        }
    };
}

properties! {
    0x01 PAYLOAD_FORMAT payload_format(Byte: u8);
    0x02 MESSAGE_EXPIRY message_expiry(Four: u32);
    0x03 CONTENT_TYPE content_type(Bytes: Vec<u8>);
    0x08 RESPONSE_TOPIC response_topic(Bytes: Vec<u8>);
    0x09 CORRELATION_DATA correlation_data(Bytes: Vec<u8>);
    0x0B SUBSCRIPTION_ID subscription_id(Variable: u32);
    0x11 SESSION_EXPIRY session_expiry(Four: u32);
    0x12 ASSIGNED_CLIENT_ID assigned_client_id(Bytes: Vec<u8>);
    0x13 SERVER_KEEP_ALIVE server_keep_alive(Two: u16);
    0x15 AUTHENTICATION_METHOD authentication_method(Bytes: Vec<u8>);
    0x16 AUTHENTICATION_DATA authentication_data(Bytes: Vec<u8>);
    0x17 REQUEST_PROBLEM_INFORMATION request_problem_information(Byte: u8);
    0x18 WILL_DELAY will_delay(Four: u32);
    0x19 REQUEST_RESPONSE_INFORMATION request_response_information(Byte: u8);
    0x1A RESPONSE_INFORMATION response_information(Bytes: Vec<u8>);
    0x1C SERVER_REFERENCE server_reference(Bytes: Vec<u8>);
    0x1F REASON_STRING reason_string(Bytes: Vec<u8>);
    0x21 RECEIVE_MAXIMUM receive_maximum(Two: u16);
    0x22 TOPIC_ALIAS_MAXIMUM topic_alias_maximum(Two: u16);
    0x23 TOPIC_ALIAS topic_alias(Two: u16);
    0x24 MAXIMUM_QOS maximum_qos(Byte: u8);
    0x25 RETAIN_AVAILABLE retain_available(Byte: u8);
    0x27 MAXIMUM_PACKET_SIZE maximum_packet_size(Four: u32);
    0x28 WILDCARD_AVAILABLE wildcard_available(Byte: u8);
    0x29 SUBSCRIPTION_IDS_AVAILABLE subscription_ids_available(Byte: u8);
    0x2A SHARED_AVAILABLE shared_available(Byte: u8);
}

/// Identifier of user properties.
pub const USER: u8 = 0x26;

/// A user property.
pub fn user(name: &str, value: &str) -> Property {
    Property { id: USER, value: Value::Pair(name.into(), value.into()) }
}

#[derive(Clone, Copy)]
enum Form {
    Byte,
    Two,
    Four,
    Variable,
    Bytes,
    Pair,
}

impl Property {
    /// Identifier and value as they go over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![self.id];
        match &self.value {
            Value::Byte(it) => out.push(*it),
            Value::Two(it) => out.extend(it.to_be_bytes()),
            Value::Four(it) => out.extend(it.to_be_bytes()),
            Value::Variable(it) => out.extend(crate::words::variable(*it)),
            Value::Bytes(it) => out.extend(crate::words::counted(it)),
            Value::Pair(name, value) => {
                out.extend(crate::words::counted(name));
                out.extend(crate::words::counted(value));
            }
        }
        out
    }

    /// The value as a number, 0 for texts.
    pub fn number(&self) -> u32 {
        match self.value {
            Value::Byte(it) => it.into(),
            Value::Two(it) => it.into(),
            Value::Four(it) | Value::Variable(it) => it,
            Value::Bytes(_) | Value::Pair(..) => 0,
        }
    }
}

/// A whole property field: length, then the properties.
pub fn field(properties: &[Property]) -> Vec<u8> {
    crate::words::variable_counted(&properties.iter().flat_map(Property::bytes).collect::<Vec<_>>())
}

/// Number of the first property with this identifier.
pub fn number(properties: &[Property], id: u8) -> Option<u32> {
    properties.iter().find(|it| it.id == id).map(Property::number)
}

/// Numbers of all properties with this identifier, sorted.
pub fn numbers(properties: &[Property], id: u8) -> Vec<u32> {
    let mut found: Vec<u32> = properties.iter().filter(|it| it.id == id).map(Property::number).collect();
    found.sort_unstable();
    found
}

/// Text of the first property with this identifier.
pub fn text(properties: &[Property], id: u8) -> Option<String> {
    properties.iter().find(|it| it.id == id).and_then(|it| match &it.value {
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    })
}

/// All user properties in the order they came.
pub fn users(properties: &[Property]) -> Vec<Property> {
    properties.iter().filter(|it| it.id == USER).cloned().collect()
}

/// Reads a property field off the front of `rest`.
///
/// # Panics
/// When the broker sent something that is no property field: that is a finding.
pub fn read(rest: &mut &[u8]) -> Vec<Property> {
    let length = crate::heard::variable(rest) as usize;
    assert!(length <= rest.len(), "property length {length} beyond the packet's end, {} left", rest.len());
    let (mut field, after) = rest.split_at(length);
    *rest = after;
    let mut found = Vec::new();
    while !field.is_empty() {
        let id = crate::heard::byte(&mut field);
        let form = form_of(id).unwrap_or_else(|| panic!("the broker sent the unknown property {id:#04x}"));
        let value = match form {
            Form::Byte => Value::Byte(crate::heard::byte(&mut field)),
            Form::Two => Value::Two(crate::heard::two(&mut field)),
            Form::Four => Value::Four(crate::heard::four(&mut field)),
            Form::Variable => Value::Variable(crate::heard::variable(&mut field)),
            Form::Bytes => Value::Bytes(crate::heard::counted(&mut field)),
            Form::Pair => Value::Pair(crate::heard::counted(&mut field), crate::heard::counted(&mut field)),
        };
        found.push(Property { id, value });
    }
    found
}
