// Mixture of K normals with ordered means and one unknown scale, marginalized over z.
//
//   weights ~ Dirichlet(concentration)
//   means   ~ Normal(location, prior_scale), sorted
//   scale   ~ LogNormal(log_scale_location, log_scale_spread)
//   y[n]    ~ sum_k weights[k] Normal(means[k], scale)
//
// Up to a term free of the parameters,
//   log p(y[n] | z = k) = -log(scale) - (y[n] - means[k])^2 / (2 scale^2).
data {
  int<lower=1> N;                     // observations (masked ones removed)
  int<lower=1> K;                     // components; with one, its weight is one
  vector[N] y;
  vector<lower=0>[K] concentration;
  real location;
  real<lower=0> prior_scale;
  real log_scale_location;
  real<lower=0> log_scale_spread;
}
parameters {
  simplex[K] weights;
  ordered[K] means;
  real<lower=0> scale;
}
model {
  weights ~ dirichlet(concentration);
  means ~ normal(location, prior_scale);
  scale ~ lognormal(log_scale_location, log_scale_spread);

  real half_precision = 1 / (2 * square(scale));
  vector[N] log_lik = log(weights[1]) - half_precision * square(y - means[1]);
  for (k in 2:K) {
    log_lik = log_sum_exp(log_lik, log(weights[k]) - half_precision * square(y - means[k]));
  }
  target += sum(log_lik) - N * log(scale);
}
generated quantities {
  matrix[N, K] membership;            // p(z[n] = k | y, theta)
  for (k in 1:K) {
    membership[, k] = log(weights[k]) - square(y - means[k]) / (2 * square(scale));
  }
  for (n in 1:N) {
    membership[n] = softmax(membership[n]')';
  }
}
