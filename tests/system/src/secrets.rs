//! What a zone's secrets are, computed from outside: with the recovery key that the user wrote down, and from what lies on the
//! data disk. A test that looks for them has to know them, and asks no code of the product: that finds everything right.

use aes::Aes256;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockDecrypt, BlockEncrypt, KeyInit};
use anyhow::{Context, ensure};
use argon2::{Algorithm, Argon2, Params, Version};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, OpModeR, Serializable, single_shot_open};
use ring::hkdf::{HKDF_SHA256, Prk};

/// Bytes of everything that is secret here, but a disk's key: that is two of them.
pub const SIZE: usize = 32;
/// Bytes of a PIN's salt.
const SALT: usize = 16;

/// A zone's secrets, as far as they come from its one.
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    /// What the machine's TPM seals.
    pub secret: [u8; SIZE],
    /// What the state of the zone's TPM is encrypted with.
    pub state: [u8; SIZE],
    /// What the zone's TPM gives out what it keeps for.
    pub authorization: [u8; SIZE],
    /// The tunnel's private key.
    pub tunnel: [u8; SIZE],
}

impl Secrets {
    /// Out of a zone's `.recovery` file.
    ///
    /// # Errors
    /// The key is none, or not the one that the file was made for.
    pub fn recovered(zone: &str, digits: &str, file: &[u8]) -> anyhow::Result<Self> {
        let groups =
            digits.split('-').map(|group| Ok(u16::try_from(group.parse::<u32>()? / 11)?.to_be_bytes()));
        let key = groups.collect::<anyhow::Result<Vec<_>>>().context("read the recovery key")?.concat();
        let (private, _) = X25519HkdfSha256::derive_keypair(&key);
        // One wrapping: whose, encapsulated key, length and bytes of what is sealed.
        ensure!(file.first() == Some(&1), "the file holds another number of wrappings");
        let encapsulated = file.get(33..65).context("the file is short")?;
        let sealed = file.get(66..).context("the file is short")?;
        let opened = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
            &OpModeR::Base,
            &private,
            &<X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(anyhow::Error::msg)?,
            b"bulkhead zone recovery",
            sealed,
            zone.as_bytes(),
        )
        .map_err(anyhow::Error::msg)
        .context("unwrap the zone's secret")?;
        let secret = <[u8; SIZE]>::try_from(opened.as_slice()).context("a secret of another length")?;
        let source = Prk::new_less_safe(HKDF_SHA256, &secret);
        let key = |purpose: &[u8]| {
            let mut key = [0; SIZE];
            let made = source.expand(&[purpose], HKDF_SHA256).and_then(|bytes| bytes.fill(&mut key));
            made.ok().context("expand the secret").map(|()| key)
        };
        Ok(Self {
            secret,
            state: key(b"bulkhead vtpm state")?,
            authorization: key(b"bulkhead vtpm authorization")?,
            tunnel: key(b"bulkhead tunnel")?,
        })
    }

    /// The public half of the tunnel's key.
    ///
    /// # Errors
    /// None: any 32 bytes are a key.
    pub fn tunnel_public(&self) -> anyhow::Result<[u8; SIZE]> {
        let private =
            <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(&self.tunnel).map_err(anyhow::Error::msg)?;
        Ok(X25519HkdfSha256::sk_to_pk(&private).to_bytes().into())
    }

    /// What the machine's TPM compares for a PIN; the salt stands in the zone's `.zone` file before the tunnel's public key.
    ///
    /// # Errors
    /// The file is another zone's.
    pub fn stretched(&self, pin: &str, file: &[u8]) -> anyhow::Result<[u8; SIZE]> {
        let public = self.tunnel_public()?;
        let at =
            file.windows(SIZE).position(|bytes| bytes == public).context("the file is another zone's")?;
        let salt = at.checked_sub(SALT).and_then(|from| file.get(from..at)).context("no salt")?;
        let mut stretched = [0; SIZE];
        let params = Params::new(19 * 1024, 2, 1, Some(SIZE)).map_err(anyhow::Error::msg)?;
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(pin.as_bytes(), salt, &mut stretched)
            .map_err(anyhow::Error::msg)?;
        Ok(stretched)
    }
}

/// The disk's key among keys that were found: the two with which the sector of the file system's superblock is one (AES-XTS,
/// sectors of 512 bytes). `sector` is number 2 of the disk.
#[must_use]
pub fn disk_key(keys: &[[u8; SIZE]], sector: &[u8]) -> Option<[[u8; SIZE]; 2]> {
    // Of the superblock, bytes 48 to 63: at 56 the magic number, the state and what to do about errors (ext4, "The Super Block").
    let block: [u8; 16] = sector.get(48..64)?.try_into().ok()?;
    let mut number = [0; 16];
    number[0] = 2;
    let pairs = keys.iter().flat_map(|data| keys.iter().map(move |tweak| [*data, *tweak]));
    pairs.into_iter().find(|[data, tweak]| {
        let mut mask = GenericArray::from(number);
        Aes256::new(&GenericArray::from(*tweak)).encrypt_block(&mut mask);
        // Three blocks further.
        let mask = (0..3).fold(u128::from_le_bytes(mask.into()), |mask, _| {
            mask << 1 ^ if mask >> 127 == 0 { 0 } else { 0x87 }
        });
        let mut plain = GenericArray::from((u128::from_le_bytes(block) ^ mask).to_le_bytes());
        Aes256::new(&GenericArray::from(*data)).decrypt_block(&mut plain);
        let plain = (u128::from_le_bytes(plain.into()) ^ mask).to_le_bytes();
        let [.., 0x53, 0xEF, state, 0, errors, 0, _, _] = plain else { return false };
        state < 8 && (1..=3).contains(&errors)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_key_is_known_by_its_superblock() {
        let (data, tweak) = ([0x27; SIZE], [0x31; SIZE]);
        let mut mask = GenericArray::from([2_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Aes256::new(&GenericArray::from(tweak)).encrypt_block(&mut mask);
        let mut mask: [u8; 16] = mask.into();
        for _ in 0..3 {
            // IEEE 1619, section 5.2: multiplication by alpha, byte by byte.
            let mut carry = 0;
            for byte in &mut mask {
                (*byte, carry) = (*byte << 1 | carry, *byte >> 7);
            }
            mask[0] ^= 0x87 * carry;
        }
        let mut block = [7_u8; 16];
        block[8..14].copy_from_slice(&[0x53, 0xEF, 1, 0, 2, 0]);
        let mut block = GenericArray::from(std::array::from_fn::<u8, 16, _>(|at| block[at] ^ mask[at]));
        Aes256::new(&GenericArray::from(data)).encrypt_block(&mut block);
        let mut sector = [0; 512];
        for (at, byte) in block.iter().enumerate() {
            sector[48 + at] = byte ^ mask[at];
        }
        let keys = [[1; SIZE], tweak, data];
        assert_eq!(disk_key(&keys, &sector), Some([data, tweak]));
        sector[60] ^= 1;
        assert_eq!(disk_key(&keys, &sector), None);
    }
}
