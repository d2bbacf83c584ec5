/** A value that components can watch. */

import { useEffect, useState } from "preact/hooks";

export interface Signal<T> {
  get(): T;
  set(value: T): void;
  use(): T;
}

export const signal = <T>(initial: T): Signal<T> => {
  let value = initial;
  const watchers = new Set<() => void>();
  return {
    get: () => value,
    set: (next) => {
      value = next;
      watchers.forEach((watcher) => watcher());
    },
    use: () => {
      const [, again] = useState(0);
      useEffect(() => {
        const watcher = () => again((n) => n + 1);
        watchers.add(watcher);
        return () => void watchers.delete(watcher);
      }, []);
      return value;
    },
  };
};
