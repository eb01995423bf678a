//! Names of the `Shard` objects: `shard-07` holds the totals of shard 7, `shard-07-p0` its first page.

use super::shard::{ShardCount, ShardId};

/// One `Shard` object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ShardObject {
    pub(crate) shard: ShardId,
    /// The page; none for the totals.
    pub(crate) page: Option<u16>,
}

impl ShardObject {
    /// `metadata.name`. Shards are padded to the width of the greatest, at least 2.
    pub(crate) fn name(self, count: ShardCount) -> String {
        let width = (count.get() - 1).to_string().len().max(2);
        let totals = format!("shard-{:0width$}", self.shard.0);
        match self.page {
            Some(page) => format!("{totals}-p{page}"),
            None => totals,
        }
    }

    /// Reads `metadata.name`; none for what korder would not have named so.
    pub(crate) fn parse(name: &str, count: ShardCount) -> Option<Self> {
        let rest = name.strip_prefix("shard-")?;
        let (shard, page) = match rest.split_once("-p") {
            Some((shard, page)) => (shard, Some(page.parse().ok()?)),
            None => (rest, None),
        };
        let object = Self {
            shard: ShardId(shard.parse().ok().filter(|&shard| shard < count.get())?),
            page,
        };
        (object.name(count) == name).then_some(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded_and_read_back() {
        for (count, shard, page, name) in [
            (1, 0, None, "shard-00"),
            (64, 7, None, "shard-07"),
            (64, 63, Some(0), "shard-63-p0"),
            (1024, 7, Some(12), "shard-0007-p12"),
        ] {
            let (count, shard) = (ShardCount::try_from(count).unwrap(), ShardId(shard));
            let object = ShardObject { shard, page };
            assert_eq!(object.name(count), name);
            assert_eq!(ShardObject::parse(name, count), Some(object));
        }
    }

    #[test]
    fn other_names_are_not_korders() {
        let count = ShardCount::try_from(64).unwrap();
        for name in [
            "shard-7",
            "shard-64",
            "shard-007",
            "shard-07-p",
            "shard-07-p00",
            "shard-07-x",
            "shard-+7",
        ] {
            assert_eq!(ShardObject::parse(name, count), None, "{name}");
        }
    }
}
