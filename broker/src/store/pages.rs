//! Reading a damaged redb file page by page, using only pages that their checksums confirm.
//!
//! redb refuses a file with a damaged page. Each page of its trees is confirmed by a checksum in its parent page, and
//! the root by one in the header (redb's docs/design.md, file format 3). All pages except the damaged one and those
//! below it can therefore still be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_128;

const MAGIC: &[u8] = b"redb\x1a\x0a\xa9\x0d\x0a";
/// Size of the header with both commit slots, and offsets of the slots.
const HEADER_BYTES: usize = 320;
const SLOTS: [usize; 2] = [64, 192];
const SLOT_BYTES: usize = 128;
/// Offsets in a slot: whether there is a root, the root, and the slot's own checksum.
const SLOT_HAS_ROOT: usize = 1;
const SLOT_ROOT: usize = 8;
const SLOT_CHECKSUM: usize = SLOT_BYTES - 16;
/// Maximum depth of a tree that is followed; real trees are less deep.
const MAX_TREE_DEPTH: usize = 64;
const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// File and the layout of its pages.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    length: u64,
    page_bytes: u64,
    /// Size of each region's header, in bytes.
    header_bytes: u64,
    region_bytes: u64,
    /// Root of the master tree of the last commit, and that of the commit before it.
    roots: Vec<Root>,
}

/// Root page of a tree.
#[derive(Clone, Copy, Debug)]
struct Root {
    page: u64,
    checksum: u128,
}

/// Table in a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree {
    root: Option<Root>,
    /// Number of rows according to the master tree.
    pub(super) rows: u64,
    /// Fixed size of each key and each value in bytes; `None` if it varies.
    pub(super) key: Option<usize>,
    pub(super) value: Option<usize>,
}

impl Pages {
    /// Reads the header. Returns `None` if the header itself is damaged.
    pub(super) fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Ok(None);
        }
        file.read_exact_at(&mut header, 0)?;
        Ok(Self::parse(file, length, &header))
    }

    fn parse(file: File, length: u64, header: &[u8]) -> Option<Self> {
        let page_bytes = u64::from(u32_at(header, 12)?);
        let (header_pages, region_pages) = (u32_at(header, 16)?, u32_at(header, 20)?);
        let sane = header.starts_with(MAGIC) && page_bytes.is_power_of_two() && page_bytes >= 512;
        if !sane {
            return None;
        }
        let primary = usize::from(header[MAGIC.len()] & 1);
        let slots = [SLOTS[primary], SLOTS[1 - primary]].map(|at| &header[at..at + SLOT_BYTES]);
        let confirmed = slots.into_iter().filter(|slot| {
            Some(xxh3_128(&slot[..SLOT_CHECKSUM])) == u128_at(slot, SLOT_CHECKSUM) && slot[SLOT_HAS_ROOT] != 0
        });
        let roots = confirmed.filter_map(|slot| Root::read(slot, SLOT_ROOT)).collect();
        let header_bytes = u64::from(header_pages) * page_bytes;
        let region_bytes = header_bytes + u64::from(region_pages) * page_bytes;
        Some(Self { file, length, page_bytes, header_bytes, region_bytes, roots })
    }

    /// Returns the tables by name: those of the last commit, or of the commit before it if the list of tables is
    /// damaged.
    pub(super) fn tables(&self) -> BTreeMap<String, Tree> {
        let mut tables = BTreeMap::new();
        for root in &self.roots {
            let master = Tree { root: Some(*root), rows: 0, key: None, value: None };
            self.walk(master, &mut |name, definition| {
                if let (Ok(name), Some(tree)) = (str::from_utf8(name), Tree::read(definition)) {
                    tables.insert(name.to_owned(), tree);
                }
            });
            if !tables.is_empty() {
                break;
            }
        }
        tables
    }

    /// Calls `each` for every row on a confirmed page, in key order.
    pub(super) fn walk(&self, tree: Tree, each: &mut dyn FnMut(&[u8], &[u8])) {
        if let Some(root) = tree.root {
            self.descend(root, tree, MAX_TREE_DEPTH, each);
        }
    }

    /// Visits the rows below a page. Returns `None` if the page is damaged; the pages below it are skipped.
    fn descend(&self, at: Root, tree: Tree, deep: usize, each: &mut dyn FnMut(&[u8], &[u8])) -> Option<()> {
        let page = self.page(at.page)?;
        match *page.first()? {
            LEAF => {
                let leaf = Leaf::read(&page, tree)?;
                confirmed(&page, leaf.end, at.checksum)?;
                for n in 0..leaf.pairs {
                    let (key, value) = leaf.pair(n)?;
                    each(key, value);
                }
            }
            BRANCH => {
                let children = usize::from(u16_at(&page, 2)?) + 1;
                let (checksums, pages) = (8, 8 + 16 * children);
                let ends = pages + 8 * children;
                let end = match tree.key {
                    Some(width) => ends + width * (children - 1),
                    None => u32_at(&page, ends + 4 * children.checked_sub(2)?)? as usize,
                };
                confirmed(&page, end, at.checksum)?;
                for n in 0..children {
                    let child = Root {
                        page: u64_at(&page, pages + 8 * n)?,
                        checksum: u128_at(&page, checksums + 16 * n)?,
                    };
                    self.descend(child, tree, deep.checked_sub(1)?, each);
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn page(&self, number: u64) -> Option<Vec<u8>> {
        let order = number >> 59;
        let index = number & (0xF_FFFF >> order);
        let region = number >> 20 & 0xF_FFFF;
        let bytes = self.page_bytes.checked_mul(1 << order)?;
        // The file's header occupies one page before the first region.
        let start = self.page_bytes
            + region.checked_mul(self.region_bytes)?
            + self.header_bytes
            + index.checked_mul(bytes)?;
        if start.checked_add(bytes)? > self.length {
            return None;
        }
        let mut page = vec![0; usize::try_from(bytes).ok()?];
        self.file.read_exact_at(&mut page, start).ok()?;
        Some(page)
    }
}

impl Root {
    fn read(bytes: &[u8], at: usize) -> Option<Self> {
        Some(Self { page: u64_at(bytes, at)?, checksum: u128_at(bytes, at + 8)? })
    }
}

impl Tree {
    /// Parses a definition in the master tree: kind, rows, root, and the widths of keys and values.
    fn read(definition: &[u8]) -> Option<Self> {
        let width = |at: usize| -> Option<Option<usize>> {
            let fixed = *definition.get(at)? != 0;
            let width = u32_at(definition, at + 1)? as usize;
            Some(fixed.then_some(width))
        };
        let root = if *definition.get(9)? == 0 { None } else { Some(Root::read(definition, 10)?) };
        Some(Self { root, rows: u64_at(definition, 1)?, key: width(42)?, value: width(47)? })
    }
}

/// Page with rows.
struct Leaf<'a> {
    page: &'a [u8],
    tree: Tree,
    pairs: usize,
    /// Offsets of the keys and of the values.
    keys: usize,
    values: usize,
    end: usize,
}

impl<'a> Leaf<'a> {
    fn read(page: &'a [u8], tree: Tree) -> Option<Self> {
        let pairs = usize::from(u16_at(page, 2)?);
        let tables = usize::from(tree.key.is_none()) + usize::from(tree.value.is_none());
        let mut leaf = Self { page, tree, pairs, keys: 4 + 4 * pairs * tables, values: 0, end: 0 };
        leaf.values = leaf.key_end(pairs.checked_sub(1)?)?;
        leaf.end = leaf.value_end(pairs - 1)?;
        Some(leaf)
    }

    fn key_end(&self, n: usize) -> Option<usize> {
        match self.tree.key {
            Some(width) => Some(self.keys + width * (n + 1)),
            None => Some(u32_at(self.page, 4 + 4 * n)? as usize),
        }
    }

    fn value_end(&self, n: usize) -> Option<usize> {
        let before = if self.tree.key.is_none() { self.pairs } else { 0 };
        match self.tree.value {
            Some(width) => Some(self.values + width * (n + 1)),
            None => Some(u32_at(self.page, 4 + 4 * (before + n))? as usize),
        }
    }

    fn pair(&self, n: usize) -> Option<(&'a [u8], &'a [u8])> {
        let (key, value) = match n.checked_sub(1) {
            None => (self.keys, self.values),
            Some(last) => (self.key_end(last)?, self.value_end(last)?),
        };
        Some((self.page.get(key..self.key_end(n)?)?, self.page.get(value..self.value_end(n)?)?))
    }
}

/// Checks the first `end` bytes of a page against the checksum in its parent.
fn confirmed(page: &[u8], end: usize, checksum: u128) -> Option<()> {
    (xxh3_128(page.get(..end)?) == checksum).then_some(())
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn u128_at(bytes: &[u8], at: usize) -> Option<u128> {
    array(bytes, at).map(u128::from_le_bytes)
}
