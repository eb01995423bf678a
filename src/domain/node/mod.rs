//! A Node, and which Orders it may serve.

pub(crate) mod eligibility;
pub(crate) mod outage;
pub(crate) mod record;
pub(crate) mod selector;
pub(crate) mod toleration;
