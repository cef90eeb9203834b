//! What must survive a restart, as small facts.
//!
//! Each names its client or its topic, and each is the whole new value of something or its end: said twice it means the same,
//! and for one subject the last one holds. So a journal may keep a log, or a table from [`Change::subject`] to the
//! newest record. Sessions that outlive their connection, wills, and retained messages are spoken of, nothing else.
//!
//! Order in a recall: a client's [`Change::Session`] first, [`Change::Subscribed`] and [`Change::Queued`] in the order
//! of `place`, [`Change::Sent`] and [`Change::Received`] after their `Queued`.

use std::sync::Arc;

use quoll_mqtt::packet::SubscriptionOptions;
use quoll_mqtt::{PacketId, QoS, TopicFilter, TopicName};

use crate::message::Message;
use crate::moment::Moment;
use crate::record::{Reader, RecordError, Writer};
use crate::vocabulary::Identity;

/// One fact.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A session that outlives its connection exists, and this is about it.
    Session {
        /// Client identifier.
        client_id: Arc<str>,
        /// What is to be known.
        record: SessionRecord,
    },
    /// The session is over: nothing of this client is to be kept.
    SessionEnded {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// The session has this subscription; an older one to the filter is replaced [MQTT-3.8.4-3].
    Subscribed {
        /// Client identifier.
        client_id: Arc<str>,
        /// Filter, `$share/…` included.
        filter: TopicFilter,
        /// Options as granted.
        options: SubscriptionOptions,
        /// Subscription identifier; 0 for none.
        identifier: u32,
    },
    /// It has not any more.
    Unsubscribed {
        /// Client identifier.
        client_id: Arc<str>,
        /// Filter.
        filter: TopicFilter,
    },
    /// A message waits for the client.
    Queued {
        /// Client identifier.
        client_id: Arc<str>,
        /// Number of this delivery: grows with each delivery of the session.
        place: u64,
        /// The delivery.
        parcel: Parcel,
    },
    /// It was sent as a PUBLISH with this identifier; not yet acknowledged.
    Sent {
        /// Client identifier.
        client_id: Arc<str>,
        /// Number of the delivery.
        place: u64,
        /// Packet identifier.
        packet_id: PacketId,
    },
    /// The client has received a QoS 2 message (PUBREC); PUBREL is owed until PUBCOMP. The message is not needed any more.
    Received {
        /// Client identifier.
        client_id: Arc<str>,
        /// Number of the delivery.
        place: u64,
        /// Packet identifier.
        packet_id: PacketId,
    },
    /// The delivery is over: acknowledged, expired or dropped.
    Delivered {
        /// Client identifier.
        client_id: Arc<str>,
        /// Number of the delivery.
        place: u64,
    },
    /// A QoS 2 message with this identifier came from the client and was routed [MQTT-4.3.3-9].
    Incoming {
        /// Client identifier.
        client_id: Arc<str>,
        /// Packet identifier.
        packet_id: PacketId,
    },
    /// The same, not routed yet: that happens at PUBREL.
    Held {
        /// Client identifier.
        client_id: Arc<str>,
        /// Packet identifier.
        packet_id: PacketId,
        /// The message.
        message: Arc<Message>,
    },
    /// Its PUBREL came: the identifier is free.
    Released {
        /// Client identifier.
        client_id: Arc<str>,
        /// Packet identifier.
        packet_id: PacketId,
    },
    /// The client is connected and left a will: should the node end without a word, its connection ends badly, and the
    /// will is said after the next start (§3.1.2.5). Of a client whose session ends with its connection this is the only
    /// fact there is.
    WillLodged {
        /// Client identifier.
        client_id: Arc<str>,
        /// Whose it is.
        identity: Box<Identity>,
        /// The will.
        message: Arc<Message>,
        /// Seconds of Message Expiry Interval, counted from its publication.
        expiry: Option<u32>,
        /// Will Delay Interval in seconds.
        delay: u32,
    },
    /// The client is gone and its will waits (§3.1.3.2.2).
    WillPending {
        /// Client identifier.
        client_id: Arc<str>,
        /// The will.
        message: Arc<Message>,
        /// Seconds of Message Expiry Interval, counted from its publication.
        expiry: Option<u32>,
        /// When it is published.
        due: Moment,
    },
    /// The will was published or is not wanted any more, or the client is back.
    WillSettled {
        /// Client identifier.
        client_id: Arc<str>,
    },
    /// This message is retained for its topic.
    Retained {
        /// The message.
        message: Arc<Message>,
    },
    /// No message is retained for this topic.
    RetainedCleared {
        /// Topic.
        topic: TopicName,
    },
}

/// What is kept about a session itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SessionRecord {
    /// Whose it is.
    pub identity: Identity,
    /// Session Expiry Interval in seconds; `u32::MAX`: never.
    pub expiry: u32,
    /// Since when no connection belongs to it; `None` while one does.
    pub absent_since: Option<Moment>,
}

/// A message on its way to one session.
#[derive(Clone, Debug, PartialEq)]
pub struct Parcel {
    /// The message.
    pub message: Arc<Message>,
    /// Level of the delivery.
    pub qos: QoS,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// Identifiers of the matching subscriptions.
    pub identifiers: Option<Box<[u32]>>,
    /// The shared subscription it came by, to hand it to another member if this one never takes it (§4.8.2).
    pub shared: Option<TopicFilter>,
}

/// What a fact is about: two facts with the same subject replace each other.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// A client's session, with all that hangs on it.
    Session(Arc<str>),
    /// One subscription of a client.
    Subscription(Arc<str>, TopicFilter),
    /// One delivery to a client. The three facts of its life complete each other; [`Change::Delivered`] ends it.
    Delivery(Arc<str>, u64),
    /// One QoS 2 message from a client, by its identifier.
    Incoming(Arc<str>, PacketId),
    /// A client's will.
    Will(Arc<str>),
    /// A topic's retained message.
    Retained(TopicName),
}

impl Change {
    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self {
            Self::Session { client_id, .. } | Self::SessionEnded { client_id } => {
                Subject::Session(client_id.clone())
            }
            Self::Subscribed { client_id, filter, .. } | Self::Unsubscribed { client_id, filter } => {
                Subject::Subscription(client_id.clone(), filter.clone())
            }
            Self::Queued { client_id, place, .. }
            | Self::Sent { client_id, place, .. }
            | Self::Received { client_id, place, .. }
            | Self::Delivered { client_id, place } => Subject::Delivery(client_id.clone(), *place),
            Self::Incoming { client_id, packet_id }
            | Self::Held { client_id, packet_id, .. }
            | Self::Released { client_id, packet_id } => Subject::Incoming(client_id.clone(), *packet_id),
            Self::WillLodged { client_id, .. }
            | Self::WillPending { client_id, .. }
            | Self::WillSettled { client_id } => Subject::Will(client_id.clone()),
            Self::Retained { message } => Subject::Retained(message.topic.clone()),
            Self::RetainedCleared { topic } => Subject::Retained(topic.clone()),
        }
    }

    /// Client identifier, or `None` where it is about a retained message.
    #[must_use]
    pub const fn client_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::Session { client_id, .. }
            | Self::SessionEnded { client_id }
            | Self::Subscribed { client_id, .. }
            | Self::Unsubscribed { client_id, .. }
            | Self::Queued { client_id, .. }
            | Self::Sent { client_id, .. }
            | Self::Received { client_id, .. }
            | Self::Delivered { client_id, .. }
            | Self::Incoming { client_id, .. }
            | Self::Held { client_id, .. }
            | Self::Released { client_id, .. }
            | Self::WillLodged { client_id, .. }
            | Self::WillPending { client_id, .. }
            | Self::WillSettled { client_id } => Some(client_id),
            Self::Retained { .. } | Self::RetainedCleared { .. } => None,
        }
    }

    /// Whether it ends its subject, so that a table forgets the row; of a session: all rows of the client.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::SessionEnded { .. }
                | Self::Unsubscribed { .. }
                | Self::Delivered { .. }
                | Self::Released { .. }
                | Self::WillSettled { .. }
                | Self::RetainedCleared { .. }
        )
    }

    /// Its bytes, with version and checksum.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Writer::new(self.kind());
        if let Some(client_id) = self.client_id() {
            to.text(client_id);
        }
        match self {
            Self::Session { record, .. } => {
                record.identity.write(&mut to);
                to.word(record.expiry);
                to.option(record.absent_since, Writer::moment);
            }
            Self::SessionEnded { .. } | Self::WillSettled { .. } => {}
            Self::Subscribed { filter, options, identifier, .. } => {
                to.text(filter.as_str());
                to.options(*options);
                to.word(*identifier);
            }
            Self::Unsubscribed { filter, .. } => to.text(filter.as_str()),
            Self::Queued { place, parcel, .. } => {
                to.long(*place);
                parcel.write(&mut to);
            }
            Self::Sent { place, packet_id, .. } | Self::Received { place, packet_id, .. } => {
                to.long(*place);
                to.short(packet_id.get());
            }
            Self::Delivered { place, .. } => to.long(*place),
            Self::Incoming { packet_id, .. } | Self::Released { packet_id, .. } => to.short(packet_id.get()),
            Self::Held { packet_id, message, .. } => {
                to.short(packet_id.get());
                to.message(message);
            }
            Self::WillLodged { identity, message, expiry, delay, .. } => {
                identity.write(&mut to);
                to.message(message);
                to.option(*expiry, Writer::word);
                to.word(*delay);
            }
            Self::WillPending { message, expiry, due, .. } => {
                to.message(message);
                to.option(*expiry, Writer::word);
                to.moment(*due);
            }
            Self::Retained { message } => to.message(message),
            Self::RetainedCleared { topic } => to.text(topic.as_str()),
        }
        to.finish()
    }

    /// Reads a fact; exact: every byte is used.
    ///
    /// # Errors
    /// Where the bytes are damaged or of an unknown version.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let (kind, mut from) = Reader::open(bytes)?;
        let client_id: Arc<str> =
            if kind < FIRST_WITHOUT_CLIENT { from.text("client id")? } else { "".into() };
        let change = match kind {
            0 => Self::Session { client_id, record: SessionRecord::read(&mut from)? },
            1 => Self::SessionEnded { client_id },
            2 => Self::Subscribed {
                client_id,
                filter: from.filter()?,
                options: from.options()?,
                identifier: from.word()?,
            },
            3 => Self::Unsubscribed { client_id, filter: from.filter()? },
            4 => Self::Queued { client_id, place: from.long()?, parcel: Parcel::read(&mut from)? },
            5 => Self::Sent { client_id, place: from.long()?, packet_id: packet_id(&mut from)? },
            6 => Self::Received { client_id, place: from.long()?, packet_id: packet_id(&mut from)? },
            7 => Self::Delivered { client_id, place: from.long()? },
            8 => Self::Incoming { client_id, packet_id: packet_id(&mut from)? },
            9 => Self::Released { client_id, packet_id: packet_id(&mut from)? },
            10 => Self::WillPending {
                client_id,
                message: from.message()?,
                expiry: from.option("expiry", Reader::word)?,
                due: from.moment()?,
            },
            11 => Self::WillSettled { client_id },
            12 => Self::WillLodged {
                client_id,
                identity: Box::new(Identity::read(&mut from)?),
                message: from.message()?,
                expiry: from.option("expiry", Reader::word)?,
                delay: from.word()?,
            },
            13 => Self::Held { client_id, packet_id: packet_id(&mut from)?, message: from.message()? },
            FIRST_WITHOUT_CLIENT => Self::Retained { message: from.message()? },
            129 => Self::RetainedCleared { topic: from.topic("topic")? },
            found => return Err(RecordError::Kind { found }),
        };
        from.close()?;
        Ok(change)
    }

    const fn kind(&self) -> u8 {
        match self {
            Self::Session { .. } => 0,
            Self::SessionEnded { .. } => 1,
            Self::Subscribed { .. } => 2,
            Self::Unsubscribed { .. } => 3,
            Self::Queued { .. } => 4,
            Self::Sent { .. } => 5,
            Self::Received { .. } => 6,
            Self::Delivered { .. } => 7,
            Self::Incoming { .. } => 8,
            Self::Released { .. } => 9,
            Self::WillPending { .. } => 10,
            Self::WillSettled { .. } => 11,
            Self::WillLodged { .. } => 12,
            Self::Held { .. } => 13,
            Self::Retained { .. } => FIRST_WITHOUT_CLIENT,
            Self::RetainedCleared { .. } => 129,
        }
    }
}

/// Kinds below name a client in their first field; those from here on do not.
const FIRST_WITHOUT_CLIENT: u8 = 128;

fn packet_id(from: &mut Reader<'_>) -> Result<PacketId, RecordError> {
    PacketId::new(from.short()?).ok_or(RecordError::Value { field: "packet id" })
}

impl Identity {
    fn write(&self, to: &mut Writer) {
        to.text(&self.name);
        to.option(self.credential.as_ref(), Writer::array);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self { name: from.text("identity")?, credential: from.option("credential", Reader::array)? })
    }
}

impl SessionRecord {
    fn read(from: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            identity: Identity::read(from)?,
            expiry: from.word()?,
            absent_since: from.option("absent since", Reader::moment)?,
        })
    }
}

impl Parcel {
    pub(crate) fn write(&self, to: &mut Writer) {
        to.message(&self.message);
        to.byte(self.qos as u8);
        to.flag(self.retain);
        to.option(self.identifiers.as_deref(), |to, identifiers| {
            to.word(u32::try_from(identifiers.len()).expect("fewer than subscriptions of a session"));
            identifiers.iter().for_each(|identifier| to.word(*identifier));
        });
        to.option(self.shared.as_ref(), |to, filter| to.text(filter.as_str()));
    }

    pub(crate) fn read(from: &mut Reader<'_>) -> Result<Self, RecordError> {
        Ok(Self {
            message: from.message()?,
            qos: from.qos()?,
            retain: from.flag("retain")?,
            identifiers: from.option("identifiers", |from| {
                let mut identifiers = Vec::new();
                for _ in 0..from.word()? {
                    identifiers.push(from.word()?);
                }
                Ok(identifiers.into_boxed_slice())
            })?,
            shared: from.option("shared", Reader::filter)?,
        })
    }
}
