//! Messages between two processes: a length (four bytes, little-endian), then JSON; with the first byte of a message may come open
//! sockets.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::limits::handover::{Inherited, Parties, Returned};
use crate::limits::{Estimate, Refused};

use super::{Conversation, Role};

/// Largest message: that of some 500,000 accounts with something held.
const MAX_MESSAGE: u32 = 256 << 20;
/// Most sockets with one message (`SCM_MAX_FD` of Linux).
pub const MAX_SOCKETS: usize = 253;

/// From the old process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromOld {
    /// Who it is; its sockets come along, in this order.
    Offer {
        protocol: u32,
        version: String,
        pid: u32,
        /// Its journal.
        boot: String,
        data: PathBuf,
        sockets: Vec<Offered>,
    },
    /// Store, books and audit log are free.
    Released,
    /// From now on the new process has the accounts.
    Switch {
        accounts: Vec<Inherited>,
        #[serde(default)]
        conversations: Vec<Conversation>,
    },
    Enter {
        number: u64,
        of: Parties,
        wait: Duration,
    },
    Reserve {
        number: u64,
        of: Parties,
        admission: Option<u64>,
        estimate: Estimate,
        first: bool,
        wait: Duration,
    },
    /// Their rows are in the journal.
    GivenBack {
        returned: Vec<Returned>,
    },
    Draining {
        in_flight: u64,
        connections: u64,
    },
    #[serde(other)]
    Unknown,
}

/// Sockets of one address.
#[derive(Debug, Serialize, Deserialize)]
pub struct Offered {
    pub role: Role,
    pub address: std::net::SocketAddr,
    pub count: usize,
}

/// From the new process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNew {
    Checked {
        protocol: u32,
        version: String,
        pid: u32,
    },
    Failed {
        why: String,
    },
    Loaded,
    Serving,
    Entered {
        number: u64,
        refused: Option<Refused>,
    },
    Reserved {
        number: u64,
        answer: Answer,
    },
    #[serde(other)]
    Unknown,
}

/// What became of a reservation.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It counts in the windows of this moment.
    At(UnixMicros),
    Refused(Refused),
}

/// One direction of a link: writes.
pub struct Sender(UnixStream);

/// The other one: reads.
pub struct Receiver(UnixStream);

/// Both.
pub fn link(stream: UnixStream) -> io::Result<(Sender, Receiver)> {
    stream.set_nonblocking(false)?;
    Ok((Sender(stream.try_clone()?), Receiver(stream)))
}

impl Sender {
    /// How long the other process may take to read what is sent; `None`: for ever.
    pub fn patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(patience)
    }

    /// Ends both directions: the other process hears it at once.
    pub fn hang_up(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }

    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Sender(self.0.try_clone()?))
    }

    pub fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// At most [`MAX_SOCKETS`].
    pub fn send_with(&mut self, message: &impl Serialize, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
        let body = serde_json::to_vec(message)?;
        let length = u32::try_from(body.len()).ok().filter(|length| *length <= MAX_MESSAGE);
        let length = length.ok_or_else(|| io::Error::other("a message is too long"))?;
        let head = length.to_le_bytes();
        if sockets.is_empty() {
            return self.0.write_all(&[&head[..], &body].concat());
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        if !rights.push(SendAncillaryMessage::ScmRights(sockets)) {
            return Err(io::Error::other(format!("more than {MAX_SOCKETS} sockets")));
        }
        let sent = sendmsg(&self.0, &[IoSlice::new(&head)], &mut rights, SendFlags::empty())?;
        self.0.write_all(&head[sent..])?;
        self.0.write_all(&body)
    }
}

impl Receiver {
    /// How long a message may take to come; `None`: for ever.
    pub fn patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(patience)
    }

    /// `Ok(None)`: the other process closed the link.
    pub fn receive<M: DeserializeOwned>(&mut self) -> io::Result<Option<M>> {
        Ok(self.receive_with()?.map(|(message, _)| message))
    }

    /// With the sockets that came along.
    pub fn receive_with<M: DeserializeOwned>(&mut self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut head = [0; 4];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let got = recvmsg(
            self.0.as_fd(),
            &mut [IoSliceMut::new(&mut head)],
            &mut rights,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if got.bytes == 0 {
            return Ok(None);
        }
        let mut sockets = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        self.0.read_exact(&mut head[got.bytes..])?;
        let length = u32::from_le_bytes(head);
        if length > MAX_MESSAGE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body)?;
        Ok(Some((serde_json::from_slice(&body)?, sockets)))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn sockets_and_long_messages_come_through() {
        let (one, other) = UnixStream::pair().unwrap();
        let (mut sender, _) = link(one).unwrap();
        let (_, mut receiver) = link(other).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let text = "x".repeat(3 << 20);
        let sending = std::thread::spawn({
            let text = text.clone();
            move || {
                sender.send_with(&text, &[listener.as_fd()]).unwrap();
                sender.send(&"after").unwrap();
            }
        });
        let (got, mut sockets) = receiver.receive_with::<String>().unwrap().unwrap();
        assert_eq!(got, text);
        let listener = TcpListener::from(sockets.remove(0));
        assert!(sockets.is_empty());
        assert_eq!(receiver.receive::<String>().unwrap().unwrap(), "after");
        sending.join().unwrap();
        assert!(receiver.receive::<String>().unwrap().is_none());
        let client = TcpStream::connect(address).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(client.local_addr().unwrap(), peer, "it is the same socket");
    }

    #[test]
    fn what_another_version_says_beside_is_left_out() {
        let more = br#"{"type":"checked","protocol":1,"version":"9.9.9","pid":7,"colour":"blue"}"#;
        assert!(matches!(
            serde_json::from_slice(more).unwrap(),
            FromNew::Checked { pid: 7, .. }
        ));
        let other = br#"{"type":"sing","song":["la"]}"#;
        assert!(matches!(serde_json::from_slice(other).unwrap(), FromNew::Unknown));
        assert!(matches!(serde_json::from_slice(other).unwrap(), FromOld::Unknown));
    }

    #[test]
    fn a_length_without_bound_is_refused() {
        let (mut one, other) = UnixStream::pair().unwrap();
        one.write_all(&u32::MAX.to_le_bytes()).unwrap();
        let (_, mut receiver) = link(other).unwrap();
        assert!(receiver.receive::<String>().is_err());
    }
}
