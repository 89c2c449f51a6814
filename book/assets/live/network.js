// A trained network in the browser, by onnxruntime-web. Its files are those of the npm package, see
// onnxruntime/LICENSE; nothing comes from another host.

const folder = new URL("onnxruntime/", import.meta.url);
let runtime; // shared by all explorers of a page

function loadRuntime() {
  return (runtime ??= (async () => {
    const [ort, wasmBinary] = await Promise.all([
      import(new URL("ort.wasm.bundle.min.mjs", folder).href),
      unpack(new URL("ort-wasm-simd-threaded.wasm.gz", folder)),
    ]);
    ort.env.wasm.numThreads = 1; // more would need headers that static hosts do not send
    ort.env.wasm.wasmBinary = wasmBinary;
    return ort;
  })());
}

export async function get(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${response.status} for ${url}`);
  return response;
}

// Some servers unpack what ends in .gz on the way, so the first bytes decide.
async function unpack(url) {
  const packed = await (await get(url)).arrayBuffer();
  const [first, second] = new Uint8Array(packed);
  if (first !== 0x1f || second !== 0x8b) return packed;
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

export class Network {
  // noise: the base noise of the draws, rows of numbers; the same for all data, so that the
  // posterior moves smoothly with them.
  static async load(url, noise) {
    const ort = await loadRuntime();
    const bytes = new Uint8Array(await (await get(url)).arrayBuffer());
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    const flat = new ort.Tensor("float32", noise.flat(), [noise.length, noise[0].length]);
    return new Network(ort, session, flat);
  }

  constructor(ort, session, noise) {
    Object.assign(this, { ort, session, noise });
  }

  // y and observed: replicates in rows, one for each observation. Returns {name: {data, dims}}.
  run(y, observed) {
    const shape = [1, y.length, y[0].length];
    const tensor = (rows) => new this.ort.Tensor("float32", Float32Array.from(rows.flat()), shape);
    const feeds = { y: tensor(y), replicate_mask: tensor(observed), noise: this.noise };
    return this.session.run(feeds);
  }
}
