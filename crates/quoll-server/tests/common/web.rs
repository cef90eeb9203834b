//! A WebSocket client by hand: says what it is told to, right or wrong.

use std::io::{self, Read, Write};

/// The request that leads to MQTT over WebSocket.
pub fn request(extra: &str) -> String {
    format!(
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Protocol: mqtt\r\n{extra}\r\n"
    )
}

/// A frame as a client sends it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0xA5, 0x5A, 0x0F, 0xF1];
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..0x10000 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A stream of payload over frames. What is written goes out as one binary frame.
pub struct Web<S> {
    pub stream: S,
    /// Payload of binary frames that was not read yet.
    payload: Vec<u8>,
    /// Control frames that came: opcode and payload.
    pub control: Vec<(u8, Vec<u8>)>,
}

impl<S: Read + Write> Web<S> {
    /// Does the handshake.
    pub fn open(mut stream: S) -> Self {
        stream.write_all(request("").as_bytes()).unwrap();
        stream.flush().unwrap();
        let answer = read_head(&mut stream);
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"), "{answer}");
        Self { stream, payload: Vec::new(), control: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// Reads one frame; `false` at the end of the stream.
    pub fn read_frame(&mut self) -> io::Result<bool> {
        let mut head = [0; 2];
        if self.stream.read(&mut head[..1])? == 0 {
            return Ok(false);
        }
        self.stream.read_exact(&mut head[1..])?;
        assert_eq!(head[1] & 0x80, 0, "a server never masks (RFC 6455 §5.1)");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                self.stream.read_exact(&mut length)?;
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                self.stream.read_exact(&mut length)?;
                u64::from_be_bytes(length) as usize
            }
            length => usize::from(length),
        };
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        match head[0] {
            0x82 => self.payload.extend(payload),
            first => self.control.push((first, payload)),
        }
        Ok(true)
    }

    /// Reads frames to the end of the stream.
    pub fn read_to_the_end(&mut self) {
        while self.read_frame().unwrap_or(false) {}
    }
}

impl<S: Read + Write> Read for Web<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.payload.is_empty() {
            if !self.read_frame()? {
                return Ok(0);
            }
        }
        let taken = into.len().min(self.payload.len());
        into[..taken].copy_from_slice(&self.payload[..taken]);
        self.payload.drain(..taken);
        Ok(taken)
    }
}

impl<S: Read + Write> Write for Web<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write_all(&frame(0x82, bytes))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An HTTP answer's head, byte by byte, so that nothing behind it is lost.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&head)),
        }
    }
    String::from_utf8(head).unwrap()
}
