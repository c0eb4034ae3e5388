// Types of what the page's scripts find in the browser besides the DOM: Plotly, as far as they use it.

interface PlotlyTrace {
  type?: string;
  name?: string;
  meta?: string;
  uid?: string;
  x: unknown[];
  y: unknown[];
  line?: { color?: string; width?: number };
  marker?: { color?: string; size?: number };
  [key: string]: unknown;
}

interface PlotlyFigure {
  data: PlotlyTrace[];
  layout: Record<string, any>;
}

interface PlotlyChart extends HTMLElement {
  data: PlotlyTrace[];
  layout: Record<string, any>;
  on(event: string, listener: (event: any) => void): void;
}

interface PlotlyModule {
  newPlot(chart: HTMLElement, data: object[], layout: object, config: object): Promise<unknown>;
  react(chart: HTMLElement, data: object[], layout: object, config: object): Promise<unknown>;
  relayout(chart: HTMLElement, changes: object): Promise<unknown>;
  restyle(chart: HTMLElement, changes: object, traces?: number[]): Promise<unknown>;
  extendTraces(chart: HTMLElement, changes: object, traces: number[]): Promise<unknown>;
  downloadImage(chart: HTMLElement, options: object): Promise<unknown>;
}

declare const Plotly: PlotlyModule;

interface Window {
  Plotly?: PlotlyModule;
}

interface WindowEventMap {
  'geko-chosen': CustomEvent<string[]>;
  'geko-check': CustomEvent<import('./preview.js').Preview>;
  'geko-choose': CustomEvent<string[]>;
  'geko-compare': CustomEvent<boolean>;
  'geko-download': CustomEvent<{ url?: string; orig_name?: string } | null>;
  'geko-errors': CustomEvent<number>;
  'geko-form': CustomEvent<unknown[]>;
  'geko-open': CustomEvent<string>;
  'geko-preview': CustomEvent<string>;
  'geko-runs-changed': CustomEvent<undefined>;
  'geko-theme': CustomEvent<undefined>;
  'geko-use': CustomEvent<{ run?: string; fields?: Record<string, unknown> }>;
}
