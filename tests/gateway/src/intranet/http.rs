//! One HTTP/1.1 connection of the intranet's server: one request, one response, close.

use std::net::IpAddr;

use smoltcp::socket::tcp::Socket;

use crate::addresses::Site;

/// The longest request that is read.
const MAX_REQUEST: usize = 8 * 1024;

/// What `/bytes/N` repeats.
const FILLER: [u8; 16 * 1024] = [b'b'; 16 * 1024];

/// Where a connection is.
#[derive(Debug)]
pub(super) enum Connection {
    /// The request is incomplete.
    Reading(Vec<u8>),
    /// The response is on its way: these bytes, then as many bytes of filler.
    Sending {
        /// Status line, header and a text body.
        head: Vec<u8>,
        /// How much of it is in the socket.
        sent: usize,
        /// Filler still to send.
        filler: u64,
    },
    /// Everything was handed to the socket.
    Done,
}

impl Default for Connection {
    fn default() -> Self {
        Self::Reading(Vec::new())
    }
}

impl Connection {
    /// A complete request was read.
    pub(super) fn is_answering(&self) -> bool {
        !matches!(self, Self::Reading(_))
    }

    /// Moves bytes between the socket and this connection; says whether any moved.
    pub(super) fn serve(&mut self, socket: &mut Socket<'_>, site: Site, client: Option<IpAddr>) -> bool {
        match self {
            Self::Reading(request) => {
                let length = socket.recv_queue();
                if length == 0 {
                    // The client closed without a request.
                    if socket.is_active() && !socket.may_recv() && socket.may_send() {
                        socket.close();
                        *self = Self::Done;
                        return true;
                    }
                    return false;
                }
                let mut bytes = vec![0; length];
                let read = socket.recv_slice(&mut bytes).unwrap_or(0);
                request.extend_from_slice(bytes.get(..read).unwrap_or_default());
                if request.len() > MAX_REQUEST {
                    socket.abort();
                } else if request.windows(4).any(|window| window == b"\r\n\r\n") {
                    let (head, filler) = respond(request, site, client);
                    *self = Self::Sending { head, sent: 0, filler };
                }
                true
            }
            Self::Sending { head, sent, filler } => {
                let mut moved = false;
                while socket.can_send() && (*sent < head.len() || *filler > 0) {
                    moved = true;
                    if let Some(rest) = head.get(*sent..).filter(|rest| !rest.is_empty()) {
                        *sent += socket.send_slice(rest).unwrap_or(0);
                    } else {
                        let wanted = usize::try_from(*filler).unwrap_or(usize::MAX).min(FILLER.len());
                        let put = socket.send_slice(&FILLER[..wanted]).unwrap_or(0);
                        *filler = filler.saturating_sub(u64::try_from(put).unwrap_or(u64::MAX));
                    }
                }
                if *sent == head.len() && *filler == 0 {
                    socket.close();
                    *self = Self::Done;
                    moved = true;
                }
                moved
            }
            Self::Done => false,
        }
    }
}

/// The response to a complete request: its head with a text body, and the number of filler bytes after it.
fn respond(request: &[u8], site: Site, client: Option<IpAddr>) -> (Vec<u8>, u64) {
    let text = String::from_utf8_lossy(request);
    let mut words = text.lines().next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if method != "GET" {
        return text_response("405 Method Not Allowed", "only GET\n");
    }
    if let Some(count) = path.strip_prefix("/bytes/").and_then(|count| count.parse::<u64>().ok()) {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {count}\r\n\
             Connection: close\r\n\r\n"
        );
        return (head.into_bytes(), count);
    }
    match (path, client) {
        ("/", Some(client)) => {
            text_response("200 OK", &format!("network: {}\nclient: {client}\n", site.name()))
        }
        _ => text_response("404 Not Found", "not here\n"),
    }
}

fn text_response(status: &str, body: &str) -> (Vec<u8>, u64) {
    let length = body.len();
    let text = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    (text.into_bytes(), 0)
}
