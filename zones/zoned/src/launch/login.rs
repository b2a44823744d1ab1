//! The login record of a start, until `keeper` makes it from what the zone's vTPM unseals.
//!
//! The vTPM vouches for it: `keeper` puts its hash there, and the firmware compares. There is nothing secret in it yet.

use handover::record::{Header, LONGEST, encode};
use policy::Zone;
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use zone_protocol::vmm::LoginRecord;

/// A record for one start of a zone, which is known by the first bytes of its name.
///
/// # Errors
/// The kernel gives no random numbers.
pub(super) fn record(zone: &Zone) -> Result<LoginRecord, Errno> {
    let mut nonce = [0; 32];
    getrandom(&mut nonce, GetRandomFlags::empty())?;
    let mut identity = [0; 32];
    identity.iter_mut().zip(zone.name.bytes()).for_each(|(place, byte)| *place = byte);
    let credentials =
        zone_protocol::login::credentials(Some(&zone.user), &zone.keep).expect("a policy has names of users");
    let pairs: Vec<(&str, &[u8])> =
        credentials.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
    let mut record = [0; LONGEST];
    let header = Header { no_vtpm_yet: false, nonce, identity };
    let length = encode(&header, &pairs, &mut record).expect("what a policy says fits a record");
    Ok(LoginRecord(record.iter().copied().take(length).collect()))
}
