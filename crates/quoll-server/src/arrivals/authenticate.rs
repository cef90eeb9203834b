//! Enhanced authentication before CONNACK (5.0 §4.12): AUTH there and back until the doorkeeper's verdict.

use quoll_mqtt::decode::Role;
use quoll_mqtt::packet::{Auth, Connect, Packet};
use quoll_mqtt::{DecodeContext, DecodeError, Decoded, ProtocolVersion, ReasonCode, decode, encode};
use tokio::net::TcpStream;

use super::Arriving;
use super::turned::Turned;
use crate::authentication::{Agreed, Authenticator, Step, packet};
use crate::doorkeeper::Verdict;
use crate::limits::{AUTH_STEPS, MAX_ARRIVAL_BYTES};
use crate::websocket::binary_head;

impl Arriving {
    /// Talks until there is a verdict; who is let in is told the rest with CONNACK.
    pub(super) async fn authenticate(
        &mut self,
        socket: &mut TcpStream,
        connect: &Connect,
        method: String,
        again: Authenticator,
        plain: &mut Vec<u8>,
    ) -> Result<(Verdict, Agreed), Turned> {
        let mut dialogue = again();
        let mut step = dialogue.hear(connect.properties.authentication_data.as_deref().unwrap_or_default());
        for _ in 0..AUTH_STEPS {
            let data = match step {
                Step::Over(verdict, data) => return Ok((verdict, Agreed { method, data, again })),
                Step::Ask(data) => data,
            };
            let question = packet(ReasonCode::CONTINUE_AUTHENTICATION, &method, data);
            self.ask_for_more(socket, connect, &Packet::Auth(Box::new(question))).await?;
            let answer = self.read_auth(socket, plain).await?;
            if answer.properties.authentication_method.as_deref() != Some(method.as_str())
                || answer.reason != ReasonCode::CONTINUE_AUTHENTICATION
            {
                return Err(refused(connect, ReasonCode::PROTOCOL_ERROR)); // [MQTT-4.12.0-5]
            }
            step = dialogue.hear(answer.properties.authentication_data.as_deref().unwrap_or_default());
        }
        Err(refused(connect, ReasonCode::NOT_AUTHORIZED))
    }

    async fn ask_for_more(
        &mut self,
        socket: &mut TcpStream,
        connect: &Connect,
        packet: &Packet,
    ) -> Result<(), Turned> {
        let mut bytes = Vec::new();
        if encode(packet, ProtocolVersion::V5, &mut bytes).is_err() {
            // More than a packet holds: no client gets that far.
            return Err(Turned::TooLong);
        }
        if connect.properties.maximum_packet_size.is_some_and(|most| bytes.len() > most as usize) {
            return Err(refused(connect, ReasonCode::PACKET_TOO_LARGE)); // [MQTT-3.1.2-24]
        }
        if self.web.is_some() {
            let mut framed = Vec::new();
            binary_head(bytes.len(), &mut framed);
            framed.append(&mut bytes);
            bytes = framed;
        }
        self.write_plain(socket, &bytes).await
    }

    /// Reads the next packet, which is to be AUTH; DISCONNECT is to leave.
    async fn read_auth(&mut self, socket: &mut TcpStream, plain: &mut Vec<u8>) -> Result<Auth, Turned> {
        let context = DecodeContext {
            version: Some(ProtocolVersion::V5),
            maximum_packet_size: MAX_ARRIVAL_BYTES as u32,
            role: Role::Server,
        };
        let mut total = 0;
        loop {
            match decode(plain, &context).map_err(Turned::NoConnect)? {
                Decoded::Packet(Packet::Auth(auth), used) => {
                    plain.drain(..used);
                    return Ok(*auth);
                }
                Decoded::Packet(Packet::Disconnect(_), _) => {
                    return Err(Turned::Left(std::io::ErrorKind::UnexpectedEof.into()));
                }
                Decoded::Packet(..) => {
                    let what = "only AUTH and DISCONNECT come before CONNACK (§4.12)";
                    return Err(Turned::NoConnect(DecodeError::Protocol { packet: "packet", what }));
                }
                Decoded::Incomplete(_) => {}
            }
            total += self.read_plain(socket, plain).await?;
            if total > MAX_ARRIVAL_BYTES {
                return Err(Turned::TooLong);
            }
        }
    }
}

fn refused(connect: &Connect, reason: ReasonCode) -> Turned {
    Turned::Refused(Box::new(connect.clone()), reason)
}
