//! A slab: values in one vector, named by small numbers that are used again.

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Slots that an empty slab keeps.
const KEPT: usize = 64;

/// Values by slot.
#[derive(Debug)]
pub(super) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.slots.get_mut(slot as usize) {
                *place = Some(value);
            }
            return slot;
        }
        self.slots.push(Some(value));
        // A window holds a few million deliveries at the very most.
        u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&T> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, slot: u32) -> Option<T> {
        let value = self.slots.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        // An empty slab gives its memory back: a burst must not be held for ever. A small one keeps it,
        // or one that is emptied all the time would be made anew all the time.
        if self.free.len() == self.slots.len() && self.slots.len() > KEPT {
            self.slots = Vec::new();
            self.free = Vec::new();
        }
        Some(value)
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().flatten()
    }
}
