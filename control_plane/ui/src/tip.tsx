/** One hint for the whole page, shown by pointer and by focus alike, gone with Escape. */

import { signal } from "./signal";
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Shown {
  anchor: Element;
  text: ComponentChildren;
}

const shown = signal<Shown | null>(null);

/** Attributes that give an element a hint. */
export const tip = (text: () => ComponentChildren) => {
  const show = (event: Event) => shown.set({ anchor: event.currentTarget as Element, text: text() });
  const hide = () => shown.set(null);
  return { onMouseEnter: show, onMouseLeave: hide, onFocus: show, onBlur: hide, "aria-describedby": "tip" };
};

export const Tip = () => {
  const now = shown.use();
  const box = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    if (!now || !box.current) return;
    const at = now.anchor.getBoundingClientRect();
    const size = box.current.getBoundingClientRect();
    const below = at.bottom + 6 + size.height < innerHeight;
    const left = Math.max(8, Math.min(innerWidth - size.width - 8, at.left + at.width / 2 - size.width / 2));
    box.current.style.left = `${left}px`;
    box.current.style.top = `${below ? at.bottom + 6 : Math.max(8, at.top - size.height - 6)}px`;
  });
  return (
    <div id="tip" role="tooltip" ref={box} hidden={!now}>
      {now?.text}
    </div>
  );
};

export const hideTip = (): void => shown.set(null);
