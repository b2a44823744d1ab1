//! The little DNS that the demo network's two kinds of server need (RFC 1035): one question, answered from a
//! table, over UDP.

use std::net::IpAddr;

/// Record type A.
pub const TYPE_A: u16 = 1;

/// Record type AAAA (RFC 3596).
pub const TYPE_AAAA: u16 = 28;

const CLASS_IN: u16 = 1;
const HEADER: usize = 12;

/// The question of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Chosen by the client.
    pub id: u16,
    /// In lower case, without the trailing dot.
    pub name: String,
    /// [`TYPE_A`], [`TYPE_AAAA`] or another.
    pub kind: u16,
    /// The length of header and question: what follows is not part of either.
    pub length: usize,
    /// Number of answer, authority and additional records that the query announces.
    pub other_records: u32,
}

/// Reads a standard query with exactly one question of class IN.
#[must_use]
pub fn parse_query(query: &[u8]) -> Option<Question> {
    let word = |at: usize| Some(u16::from_be_bytes([*query.get(at)?, *query.get(at + 1)?]));
    // QR and OPCODE must be zero: a query, and a standard one (section 4.1.1).
    if word(2)? & 0xf800 != 0 || word(4)? != 1 {
        return None;
    }
    let other_records = u32::from(word(6)?) + u32::from(word(8)?) + u32::from(word(10)?);
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        // A query has nothing to compress.
        if length > 63 || at > HEADER + 255 {
            return None;
        }
        let label = std::str::from_utf8(query.get(at..at + length)?).ok()?;
        labels.push(label.to_ascii_lowercase());
        at += length;
    }
    if word(at + 2)? != CLASS_IN {
        return None;
    }
    Some(Question { id: word(0)?, name: labels.join("."), kind: word(at)?, length: at + 4, other_records })
}

/// Answers a query from `lookup`, which gives a name's addresses or `None` for NXDOMAIN. A packet that is no
/// query is not answered.
#[must_use]
pub fn answer(query: &[u8], lookup: impl Fn(&str) -> Option<Vec<IpAddr>>) -> Option<Vec<u8>> {
    let question = parse_query(query)?;
    let found = lookup(&question.name);
    let addresses: Vec<Vec<u8>> = found
        .iter()
        .flatten()
        .filter_map(|address| match (address, question.kind) {
            (IpAddr::V4(address), TYPE_A) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), TYPE_AAAA) => Some(address.octets().to_vec()),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => None,
        })
        .collect();
    let recursion_desired = u16::from_be_bytes([*query.get(2)?, *query.get(3)?]) & 0x0100;
    let name_error = if found.is_some() { 0 } else { 3 };
    // Response, authoritative, recursion available.
    let flags = 0x8480 | recursion_desired | name_error;
    let count = u16::try_from(addresses.len()).ok()?;
    let mut response = Vec::with_capacity(512);
    for word in [question.id, flags, 1, count, 0, 0] {
        response.extend_from_slice(&word.to_be_bytes());
    }
    response.extend_from_slice(query.get(HEADER..question.length)?);
    for address in addresses {
        // A pointer to the question's name.
        response.extend_from_slice(&[0xc0, 12]);
        response.extend_from_slice(&question.kind.to_be_bytes());
        response.extend_from_slice(&CLASS_IN.to_be_bytes());
        response.extend_from_slice(&60_u32.to_be_bytes());
        response.extend_from_slice(&u16::try_from(address.len()).ok()?.to_be_bytes());
        response.extend_from_slice(&address);
    }
    Some(response)
}

/// Makes a query, as a client would.
#[must_use]
pub fn build_query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut query = Vec::new();
    for word in [id, 0x0100, 1, 0, 0, 0] {
        query.extend_from_slice(&word.to_be_bytes());
    }
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(0));
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&kind.to_be_bytes());
    query.extend_from_slice(&CLASS_IN.to_be_bytes());
    query
}

#[cfg(test)]
mod tests;
