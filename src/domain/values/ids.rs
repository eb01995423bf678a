//! Newtypes for every id and key, cheap to clone and to hash.
//!
//! No bare `String` crosses a module boundary in the place of one of these.

use std::{fmt, sync::Arc};

macro_rules! id {
    ($(#[doc = $doc:literal] $name:ident),+ $(,)?) => {$(
        #[doc = $doc]
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of the id.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl<T: Into<Arc<str>>> From<T> for $name {
            fn from(text: T) -> Self {
                Self(text.into())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    )+};
}

id! {
    /// `metadata.uid` of a Node.
    NodeUid,
    /// `metadata.name` of a Node.
    NodeName,
    /// `metadata.uid` of an Order.
    OrderUid,
    /// `metadata.uid` of a Ticket.
    TicketUid,
    /// `metadata.uid` of a Pod.
    PodUid,
    /// Hash of the parts of a template that a Guardian is made from.
    TemplateHash,
    /// A namespace's name.
    Namespace,
}

/// Namespace and name of a namespaced object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The name.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key of `namespace/name`.
    pub fn new(namespace: impl Into<Namespace>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Namespace and name of an Order.
pub type OrderKey = ObjectKey;
/// Namespace and name of a Ticket.
pub type TicketKey = ObjectKey;
/// Namespace and name of a Pod.
pub type PodKey = ObjectKey;

/// One Order on one Node: the unit of every decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairKey {
    /// The Order.
    pub order: OrderUid,
    /// The Node.
    pub node: NodeUid,
}
