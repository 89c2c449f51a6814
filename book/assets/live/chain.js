// Recursions along a hidden Markov chain, in the log domain (Rabiner, 1989, section III.A); the
// counterpart of abmtools.structures for chains that stay with a probability for each state.
// Tables are flat: entry (t, k) of T x K numbers is at t * K + k.

const LOWEST = -1e30; // the logarithm of zero: finite, so that differences exist

// log(exp(terms[start]) + ... + exp(terms[start + size - 1]))
function logSumExp(terms, start, size) {
  let largest = terms[start];
  for (let k = 1; k < size; k++) largest = Math.max(largest, terms[start + k]);
  let sum = 0;
  for (let k = 0; k < size; k++) sum += Math.exp(terms[start + k] - largest);
  return largest + Math.log(sum);
}

// Whoever leaves a state goes to each other one with the same probability. Entry (j, k) is the
// logarithm of going from j to k.
function logTransition(stay) {
  const size = stay.length;
  const entry = (j, k) => (j === k ? stay[j] : (1 - stay[j]) / (size - 1));
  return Float64Array.from({ length: size * size }, (_, i) =>
    Math.max(Math.log(entry(Math.floor(i / size), i % size)), LOWEST),
  );
}

// log alpha_t(k), up to a constant; the first state is uniform.
function forward(scores, transition, size) {
  const alpha = Float64Array.from(scores);
  const terms = new Float64Array(size);
  for (let now = size; now < alpha.length; now += size) {
    for (let k = 0; k < size; k++) {
      for (let j = 0; j < size; j++) terms[j] = alpha[now - size + j] + transition[j * size + k];
      alpha[now + k] += logSumExp(terms, 0, size);
    }
  }
  return alpha;
}

// log beta_t(j)
function backward(scores, transition, size) {
  const beta = new Float64Array(scores.length);
  const terms = new Float64Array(size);
  for (let next = beta.length - size; next > 0; next -= size) {
    for (let j = 0; j < size; j++) {
      for (let k = 0; k < size; k++) {
        terms[k] = transition[j * size + k] + scores[next + k] + beta[next + k];
      }
      beta[next - size + j] = logSumExp(terms, 0, size);
    }
  }
  return beta;
}

// Turn each row of log weights into probabilities, and add their share of the mean to a table.
function addProbabilities(table, terms, size, share) {
  for (let row = 0; row < terms.length; row += size) {
    const sum = logSumExp(terms, row, size);
    for (let k = 0; k < size; k++) table[row + k] += share * Math.exp(terms[row + k] - sum);
  }
}

// p(z_t | y_1..t) and p(z_t | y_1..T), each a flat table, averaged over draws: of each draw there
// are a flat table of scores and the probabilities to stay.
export function filteringAndSmoothing(scores, stay) {
  const size = stay[0].length;
  const filtering = new Float64Array(scores[0].length);
  const smoothing = new Float64Array(scores[0].length);
  scores.forEach((ofDraw, s) => {
    const transition = logTransition(stay[s]);
    const alpha = forward(ofDraw, transition, size);
    const beta = backward(ofDraw, transition, size);
    addProbabilities(filtering, alpha, size, 1 / scores.length);
    addProbabilities(smoothing, alpha.map((value, i) => value + beta[i]), size, 1 / scores.length);
  });
  return { filtering, smoothing };
}
