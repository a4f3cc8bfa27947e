//! Signatures with RSA keys. `ssh-key` 0.6.7 puts a private key together from the first prime twice, so
//! that none signs; this takes the numbers that it read and signs with `rsa` itself, blinded: the time
//! that it takes says nothing about the key. Pure but for the system's random source.

use rsa::pkcs1v15::SigningKey;
use rsa::rand_core::OsRng;
use rsa::sha2::Sha512;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rsa::{BigUint, RsaPrivateKey};
use ssh_key::private::RsaKeypair;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Error, HashAlg, Mpint, Signature, SshSig};

/// Signs with RSA and SHA-512.
pub(super) fn sign(pair: &RsaKeypair, namespace: &str, text: &[u8]) -> Result<SshSig, Error> {
    let number = |number: &Mpint| number.as_positive_bytes().map(BigUint::from_bytes_be).ok_or(Error::Crypto);
    let primes = vec![number(&pair.private.p)?, number(&pair.private.q)?];
    let (n, e, d) = (number(&pair.public.n)?, number(&pair.public.e)?, number(&pair.private.d)?);
    let key = RsaPrivateKey::from_components(n, e, d, primes).map_err(|_| Error::Crypto)?;
    let data = SshSig::signed_data(namespace, HashAlg::Sha512, text)?;
    let signed =
        SigningKey::<Sha512>::new(key).try_sign_with_rng(&mut OsRng, &data).map_err(|_| Error::Crypto)?;
    let algorithm = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
    let signature = Signature::new(algorithm, signed.to_vec())?;
    SshSig::new(KeyData::Rsa(pair.public.clone()), namespace, HashAlg::Sha512, signature)
}
