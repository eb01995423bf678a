//! Who may speak to the API server: bearer tokens of the components, and the key that signs ServiceAccount
//! tokens. The tokens are random for each plane, so that no client of one plane is known to another.

use anyhow::{Result, anyhow};
use pem::Pem;
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair},
};

/// A user with a static token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Admin,
    ControllerManager,
    Scheduler,
    Kwok,
}

impl User {
    const ALL: [Self; 4] = [Self::Admin, Self::ControllerManager, Self::Scheduler, Self::Kwok];

    /// The user name and the group, if any. The two components have the names upstream's RBAC roles are
    /// bound to; kwok stands for many kubelets and must not be throttled as one client.
    fn subject(self) -> (&'static str, &'static str) {
        match self {
            Self::Admin => ("admin", "system:masters"),
            Self::ControllerManager => ("system:kube-controller-manager", ""),
            Self::Scheduler => ("system:kube-scheduler", ""),
            Self::Kwok => ("kwok", "system:masters"),
        }
    }
}

/// The tokens of one plane.
#[derive(Debug)]
pub(crate) struct Tokens([String; 4]);

impl Tokens {
    pub(crate) fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let mut tokens: [String; 4] = Default::default();
        for token in &mut tokens {
            let mut bytes = [0; 16];
            random.fill(&mut bytes).map_err(|_| anyhow!("no random bytes"))?;
            *token = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        }
        Ok(Self(tokens))
    }

    pub(crate) fn of(&self, user: User) -> &str {
        &self.0[user as usize]
    }

    /// The file for `--token-auth-file`.
    pub(crate) fn csv(&self) -> String {
        let line = |user: User| {
            let (name, group) = user.subject();
            format!("{},{name},{name},\"{group}\"\n", self.of(user))
        };
        User::ALL.into_iter().map(line).collect()
    }
}

/// The key pair of ServiceAccount tokens, as PEM.
pub(crate) struct SigningKey {
    pub(crate) private: String,
    pub(crate) public: String,
}

impl SigningKey {
    pub(crate) fn generate() -> Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let failed = |what| anyhow!("cannot {what} an ECDSA key");
        let private = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(|_| failed("generate"))?;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, private.as_ref(), &random);
        let pair = pair.map_err(|_| failed("read back"))?;
        let public = [&SPKI_P256[..], pair.public_key().as_ref()].concat();
        Ok(Self {
            private: pem::encode(&Pem::new("PRIVATE KEY", private.as_ref())),
            public: pem::encode(&Pem::new("PUBLIC KEY", public)),
        })
    }
}

/// The DER that precedes an uncompressed P-256 point in a SubjectPublicKeyInfo (RFC 5480).
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
