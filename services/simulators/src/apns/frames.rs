//! HTTP/2 frames, read and written. Pure. [R: RFC 9113, RFC 7541]

use bytes::{Buf as _, Bytes, BytesMut};

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before every payload.
const HEAD: usize = 9;
/// The longest payload that is taken, and that a peer takes unless it says otherwise.
const MAX_PAYLOAD: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

const MAX_CONCURRENT_STREAMS: u16 = 3;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;

/// The peer broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// One frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Bytes,
}

impl Frame {
    pub(super) const fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }

    pub(super) const fn ends_stream(&self) -> bool {
        self.flags & END_STREAM != 0
    }

    pub(super) const fn ends_headers(&self) -> bool {
        self.flags & END_HEADERS != 0
    }

    /// The payload without padding and priority.
    pub(super) fn content(&self) -> Result<Bytes, Broken> {
        let mut rest = self.payload.clone();
        let mut padding = 0;
        if self.flags & PADDED != 0 {
            padding = usize::from(*rest.first().ok_or(Broken)?);
            rest.advance(1);
        }
        if self.kind == HEADERS && self.flags & PRIORITY != 0 {
            if rest.len() < 5 {
                return Err(Broken);
            }
            rest.advance(5);
        }
        let kept = rest.len().checked_sub(padding).ok_or(Broken)?;
        rest.truncate(kept);
        Ok(rest)
    }
}

/// The next whole frame of what was read, taken out of it.
pub(super) fn next(read: &mut BytesMut) -> Result<Option<Frame>, Broken> {
    let Some(head) = read.get(..HEAD) else {
        return Ok(None);
    };
    let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if length > MAX_PAYLOAD {
        return Err(Broken);
    }
    let (kind, flags) = (head[3], head[4]);
    let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
    if read.len() < HEAD + length {
        return Ok(None);
    }
    read.advance(HEAD);
    let payload = read.split_to(length).freeze();
    Ok(Some(Frame {
        kind,
        flags,
        stream,
        payload,
    }))
}

fn head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    // Everything written here is short.
    let length = u32::try_from(length).unwrap_or(0).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// SETTINGS with a limit of streams.
pub(super) fn settings(out: &mut Vec<u8>, streams: u32) {
    head(out, 6, SETTINGS, 0, 0);
    out.extend_from_slice(&MAX_CONCURRENT_STREAMS.to_be_bytes());
    out.extend_from_slice(&streams.to_be_bytes());
}

/// The answer to SETTINGS.
pub(super) fn settings_ack(out: &mut Vec<u8>) {
    head(out, 0, SETTINGS, ACK, 0);
}

/// The answer to a PING.
pub(super) fn pong(out: &mut Vec<u8>, payload: &[u8]) {
    head(out, payload.len(), PING, ACK, 0);
    out.extend_from_slice(payload);
}

/// More room for the peer; stream 0 is the connection.
pub(super) fn window_update(out: &mut Vec<u8>, stream: u32, bytes: u32) {
    head(out, 4, WINDOW_UPDATE, 0, stream);
    out.extend_from_slice(&bytes.to_be_bytes());
}

/// Ends a stream.
pub(super) fn reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    head(out, 4, RST_STREAM, 0, stream);
    out.extend_from_slice(&code.to_be_bytes());
}

/// Ends a connection; streams above `last` were not processed.
pub(super) fn goaway(out: &mut Vec<u8>, last: u32, code: u32, debug: &[u8]) {
    head(out, 8 + debug.len(), GOAWAY, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug);
}

/// The head of an answer: its status and `apns-id`.
pub(super) fn answer(out: &mut Vec<u8>, stream: u32, status: u16, apns_id: &str, ends: bool) {
    let mut block = Vec::with_capacity(64);
    match status {
        // The static table's entries. [R: RFC 7541, appendix A]
        200 => block.push(0x88),
        400 => block.push(0x8c),
        404 => block.push(0x8d),
        500 => block.push(0x8e),
        other => {
            block.push(0x08);
            literal(&mut block, other.to_string().as_bytes());
        }
    }
    if !apns_id.is_empty() {
        block.push(0x00);
        literal(&mut block, b"apns-id");
        literal(&mut block, apns_id.as_bytes());
    }
    let flags = END_HEADERS | if ends { END_STREAM } else { 0 };
    head(out, block.len(), HEADERS, flags, stream);
    out.extend_from_slice(&block);
}

/// The last piece of a body.
pub(super) fn data(out: &mut Vec<u8>, stream: u32, body: &[u8]) {
    head(out, body.len(), DATA, END_STREAM, stream);
    out.extend_from_slice(body);
}

/// A text of up to 126 bytes; what is longer is cut, which no status and no id is.
fn literal(block: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..126).unwrap_or(text);
    block.push(u8::try_from(text.len()).unwrap_or(0));
    block.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_piece_by_piece() {
        let mut out = Vec::new();
        settings(&mut out, 1_000);
        reset(&mut out, 5, REFUSED_STREAM);
        goaway(&mut out, 3, NO_ERROR, b"{}");
        let mut read = BytesMut::new();
        let mut frames = Vec::new();
        for byte in out {
            read.extend_from_slice(&[byte]);
            while let Some(frame) = next(&mut read).unwrap() {
                frames.push((frame.kind, frame.stream, frame.payload.to_vec()));
            }
        }
        assert_eq!(
            frames,
            [
                (SETTINGS, 0, vec![0, 3, 0, 0, 3, 232]),
                (RST_STREAM, 5, vec![0, 0, 0, 7]),
                (GOAWAY, 0, b"\0\0\0\x03\0\0\0\0{}".to_vec()),
            ]
        );
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let frame = |flags, payload: &'static [u8]| Frame {
            kind: HEADERS,
            flags,
            stream: 1,
            payload: Bytes::from_static(payload),
        };
        let both = frame(PADDED | PRIORITY, b"\x02\0\0\0\0\x10headpp");
        assert_eq!(both.content(), Ok(Bytes::from_static(b"head")));
        assert_eq!(frame(PADDED, b"\x09x").content(), Err(Broken));
        assert_eq!(frame(PRIORITY, b"\0\0").content(), Err(Broken));
    }

    #[test]
    fn a_frame_that_is_too_long_breaks_the_protocol() {
        let mut read = BytesMut::from(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..]);
        assert_eq!(next(&mut read), Err(Broken));
    }
}
