//! Comparing secrets.

use subtle::ConstantTimeEq;

/// Whether two secrets are the same, in a time that tells nothing of how much of them is; their
/// lengths may be told.
///
/// ```
/// use soloist::middleware::same_secret;
/// assert!(same_secret("swordfish", "swordfish"));
/// assert!(!same_secret("swordfish", "swordfisk"));
/// ```
pub fn same_secret(a: impl AsRef<[u8]>, b: impl AsRef<[u8]>) -> bool {
    a.as_ref().ct_eq(b.as_ref()).into()
}
