"""The breaks that `mutants.py` makes: name -> (file in fgan/, what stands there, what then stands
there, the test files that should notice, by name without test_ and .py)."""

LOSS, PENALTY, ROUND = "properties_losses", "properties_penalties", "twins step"

BREAKS = {
    # losses
    "sign of the Wasserstein loss swapped": (
        "losses.py", "return fake_scores - real_scores", "return real_scores - fake_scores", LOSS,
    ),
    "minimax is the non-saturating loss": (
        "losses.py", "return -softplus(fake_scores)", "return softplus(-fake_scores)", LOSS,
    ),
    "log of a sigmoid with an epsilon": (
        "losses.py", "return softplus(-real_scores) + softplus(fake_scores)",
        "return -torch.log(torch.sigmoid(real_scores) + 1e-8) + softplus(fake_scores)", LOSS,
    ),
    "hinge without its margin": (
        "losses.py", "relu(1 - real_scores)", "relu(-real_scores)", LOSS,
    ),
    "relativistic loss against the batch's mean": (
        "losses.py", "return softplus(fake_scores - real_scores)",
        "return softplus(fake_scores - real_scores.mean())", LOSS,
    ),
    "least squares with targets swapped": (
        "losses.py", "torch.square(real_scores - 1) + torch.square(fake_scores)",
        "torch.square(real_scores) + torch.square(fake_scores - 1)", LOSS,
    ),
    # penalties
    "norm over the wrong axis": (
        "penalties.py", "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=1)",
        "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=0)", PENALTY,
    ),
    "one norm for the whole batch": (
        "penalties.py", "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=1)",
        "torch.square(gradients).sum().expand(gradients.shape[0])", PENALTY,
    ),
    "square root of a sum of squares": (
        "penalties.py", "torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())",
        "squares.sqrt()", PENALTY,
    ),
    "penalty outside the tape": (
        "penalties.py", "return vmap(grad(score))(x, *conditions)",
        "return vmap(grad(score))(x, *conditions).detach()", PENALTY,
    ),
    "one-sided for two-sided": (
        "penalties.py", "torch.relu(excess) if one_sided else excess", "torch.relu(excess)",
        PENALTY,
    ),
    "two-sided for one-sided": (
        "penalties.py", "torch.relu(excess) if one_sided else excess", "excess", PENALTY,
    ),
    "target forgotten": (
        "penalties.py", "excess = norms - tree.like(target, norms)", "excess = norms", PENALTY,
    ),
    "p for p/2: squared norms to the power p": (
        "penalties.py", "half = tree.like(p, squares) / 2", "half = tree.like(p, squares)", PENALTY,
    ),
    "power rule at a zero gradient": (
        "penalties.py", "torch.where(zero, 1.0, squares) ** half", "squares**half", PENALTY,
    ),
    "no curvature at a zero gradient": (
        "penalties.py", "squares * (half == 1)", "0.0", PENALTY,
    ),
    "k forgotten": ("penalties.py", "return tree.like(k, squares) * ", "return ", PENALTY),
    "zero-centred penalty not squared": (
        "penalties.py", "return square_norms(gradients(", "return gradient_norms(gradients(",
        PENALTY,
    ),
    "half-precision penalty": (
        "penalties.py", "        gradients = gradients.float()", "        pass", PENALTY,
    ),
    "conditions not held per sample": (
        "penalties.py", "c[None] for c in condition", "c[None] * 0 for c in condition", PENALTY,
    ),
    # points
    "one epsilon for the batch": (
        "penalties.py", "mix = mix.reshape(-1, *[1] * (real.ndim - 1))",
        "mix = mix[:1].reshape(-1, *[1] * (real.ndim - 1))", "properties_points",
    ),
    "real and fake swapped in the interpolate": (
        "penalties.py", "return mix * real + (1 - mix) * fake",
        "return mix * fake + (1 - mix) * real", "properties_points",
    ),
    "partners of another condition": (
        "penalties.py", "steps = torch.where(same, steps, size)", "pass", "properties_points",
    ),
    "both places are the real one": (
        "penalties.py", "return Points(torch.cat([real, fake])",
        "return Points(torch.cat([real, real])",
        "properties_points",
    ),
    # projection
    "clamp in place": (
        "recipes.py", "return param.clamp(-limit, limit)",
        "return param.clamp_(-limit, limit)", "properties_points",
    ),
    "clamp on one side": (
        "recipes.py", "return param.clamp(-limit, limit)", "return param.clamp(max=limit)",
        "properties_points",
    ),
    "batches of any critic in one pass": (
        "game.py", "together = penalty is not None or is_per_sample(critic)",
        "together = True", ROUND,
    ),
    "clamp before the update": (
        "game.py",
        "        params, opt_state = critic_optimizer.update(gradients, opt_state, params)\n"
        "        if project is not None:\n            params = project(params)\n",
        "        if project is not None:\n            params = project(params)\n"
        "        params, opt_state = critic_optimizer.update(gradients, opt_state, params)\n",
        ROUND,
    ),
    # the round
    "one critic update too few": (
        "game.py", "for i in range(updates):", "for i in range(max(1, updates - 1)):", ROUND,
    ),
    "every update sees the first batch": (
        "game.py", "                    batch.real[i],", "                    batch.real[0],",
        ROUND,
    ),
    "labels not shared by the fakes": (
        "game.py", "fake = fakes(state, latent, condition)",
        "fake = fakes(state, latent, condition if condition is None else condition.roll(1))",
        "properties_recipes",
    ),
    "generator judged under the first labels": (
        "game.py", "conditions[-1],", "conditions[0],", ROUND,
    ),
    "fakes in evaluation mode": (
        "game.py", "return generate_with(*state.generator[:2], latent, *conditions)[0]",
        "return generate_with(*state.generator[:2], latent, *conditions, training=False)[0]", ROUND,
    ),
    "penalty taken at the wrong weight": (
        "game.py", "tree.like(penalty_weight, penalty_mean) * penalty_mean", "penalty_mean",
        ROUND,
    ),
    "buffers of the fake pass kept": (
        "game.py", "            fake_scores, _ = critic_at(fake, *conditions)",
        "            fake_scores, new_buffers = critic_at(fake, *conditions)", ROUND,
    ),
    "critic's buffers never move": (
        "game.py",
        "player = Player(params, new_buffers, opt_state)\n"
        "        state = GANState(state.generator, player",
        "player = Player(params, buffers, opt_state)\n"
        "        state = GANState(state.generator, player", ROUND,
    ),
    "gradient cut before the generator": (
        "game.py", "fake_scores = critic_at(fake)\n",
        "fake_scores = critic_at(fake.detach())\n",
        ROUND,
    ),
    "simultaneous play takes turns": (
        "game.py", "state = GANState(ahead.generator, state.critic, ahead.ema, ahead.round)",
        "state, made = generator_update(state, *generator_input)", ROUND,
    ),
    "running mean lags a round": (
        "game.py", "tree.lerp(ema.params, params, 1 - ema_decay)",
        "tree.lerp(ema.params, state.generator.params, 1 - ema_decay)", ROUND,
    ),
    "running mean with decay reversed": (
        "game.py", "tree.lerp(ema.params, params, 1 - ema_decay)",
        "tree.lerp(ema.params, params, ema_decay)", ROUND,
    ),
    "samples without the running mean": (
        "game.py", "kept = state.ema if isinstance(state.ema, Weights) else state.generator",
        "kept = state.generator", ROUND,
    ),
    "rounds not counted": (
        "game.py", "GANState(player, state.critic, ema, state.round + 1)",
        "GANState(player, state.critic, ema, state.round)", ROUND,
    ),
    "noise the same in every round": (
        "game.py", "mix_seed(seed, _NOISE, round_index)", "mix_seed(seed, _NOISE)", ROUND,
    ),
    # networks
    "buffers mutated": (
        "networks/functional.py", "key: buffer.clone() for key, buffer in buffers.items()",
        "key: buffer for key, buffer in buffers.items()", "network step",
    ),
    "evaluation mode ignored": (
        "networks/functional.py", "is None:\n            output = functional_call(frames[training]",
        "is None:\n            output = functional_call(frames[True]", "network",
    ),
    "autocast ignored": ("networks/functional.py", "if autocast is None:", "if True:", "network"),
    "autocast passes convolutions under vmap by": (
        "networks/autocast.py", "if func in _CONVOLUTIONS and", "if False and", "network",
    ),
    "labels not looked at under grad": (
        "models/layers.py", "while functorch.is_gradtrackingtensor(x):", "while False:", "models",
    ),
    "missing real scores taken from the fakes": (
        "game.py", "unknown if real is None", "fake_scores if real is None", "errors",
    ),
    # optimisers
    "bias correction of the mean dropped": (
        "optim.py", "step_size / (1 - torch.pow(beta1, count))", "step_size * 1", "optim",
    ),
    "bias correction of the square dropped": (
        "optim.py", "torch.sqrt(1 - torch.pow(beta2, count))", "torch.ones_like(count)", "optim",
    ),
    "epsilon inside the root": (
        "optim.py", "g / (v.sqrt() + eps)", "g / (v + eps).sqrt()", "optim",
    ),
    "momentum damped": (
        "optim.py", "momentum * m + g", "momentum * m + (1 - momentum) * g", "optim",
    ),
    # compiled rounds
    "programs told apart by shapes alone": (
        "compiler/tracing.py", "key += (type(node), structure)", "key += (type(node),)", "donation",
    ),
    "donated memory not checked": (
        "compiler/compile.py", "if any(end > begin for (_, end), (begin, _) in pairwise(spans)) or",
        "if", "donation",
    ),
    "one number for all taken for memory of its own": (
        "compiler/compile.py", " or any(map(_is_shared, leaves)):", ":", "donation",
    ),
    "a leaf that becomes another read when it is overwritten": (
        "compiler/passes/moves.py", "if value is not target and", "if False and", "donation",
    ),
    "a refused round spends its state": (
        "compiler/compile.py", "if writers_runs() == runs:", "if False:", "donation",
    ),
    "merged batches taken for flattened images": (
        "compiler/passes/flattened.py", " and have.shape[0] == want.shape[0]", "", "flattened",
    ),
    "scaled products parted from their terms": (
        "compiler/passes/biases.py", "if node.kwargs or", "if", "biases",
    ),
    "narrow products turned, and not back": (
        "compiler/passes/narrow.py", "aten.permute.default, product, axes",
        "aten.reshape.default, product, [*node.meta['val'].shape]", "narrow",
    ),
    "oneDNN for Intel too": (
        "compiler/passes/onednn.py", """.startswith("Intel")""", """.startswith("?")""", "onednn",
    ),
    "every term of a product taken for a bias": (
        "compiler/passes/onednn.py",
        " and term.meta[\"val\"].shape == node.meta[\"val\"].shape[1:]", "",
        "onednn",
    ),
    "shifts of a transposed convolution reversed": (
        "compiler/passes/deconvolution.py",
        "(t - y - p) // s for", "(y + p - t) // s for", "deconvolution",
    ),
    "gradient by the image computed twice": (
        "compiler/passes/deconvolution.py", "[False, *mask[1:]]", "mask", "deconvolution",
    ),
    "rows followed where they are widened": (
        "compiler/passes/proportional.py", "value.ndim != rank", "False", "proportional",
    ),
    "rows followed through what is not linear": (
        "compiler/passes/proportional.py", "        else:\n            return None\n    if rank",
        "        else:\n            bases.append(argument)\n    if rank", "proportional",
    ),
    "factor on the wrong term of a weight's gradient": (
        "compiler/passes/proportional.py",
        "multiple.factor), u", "multiple.factor), a", "proportional",
    ),
    "stride and dilation of a weight's gradient as in the convolution": (
        "compiler/passes/weight_gradients.py", "dilation, padding, stride, False",
        "stride, padding, dilation, False", "weight_gradients",
    ),
    "samples mixed feature by feature taken for interpolates": (
        "compiler/passes/interpolates.py", " and per_sample else", " else", "interpolates",
    ),
    "labels of interpolates not looked at": (
        "compiler/passes/interpolates.py", "(_original(row.args[0]), row.args[1]) == (one, 0)",
        "row.args[1] == 0", "interpolates",
    ),
    "products joined that wait for each other": (
        "compiler/passes/products.py", "_ancestors(node).isdisjoint(together)", "True", "products",
    ),
    "results made parts of one tensor": (
        "compiler/passes/products.py", "if _is_layer(node) and not goes_out(node):",
        "if _is_layer(node):", "products",
    ),
    "terms of a joined sum in another order": (
        "compiler/passes/products.py", "rights.reverse()", "pass", "products",
    ),
    "figures of a recording handed out": (
        "compiler/cuda_graphs.py",
        "    return made\n\n\ndef _copied",
        "    return recording.info\n\n\ndef _copied",
        "replay",
    ),
    "a recording outlives its state": (
        "compiler/cuda_graphs.py", "if places != self._places:", "if not self._places:", "replay",
    ),
    # populations
    "every member has the first value": (
        "population.py", "getattr(build(value), part)", "getattr(single, part)", "population",
    ),
    "algorithms of the values built for every part": (
        "population.py", "step=checked(whole_round)",
        "step=play(critic_update, generator_update)", "population",
    ),
    "noise counted off by members": (
        "population.py", "(x.movedim(0, 1).contiguous() for x in", "(x for x in", "population",
    ),
    "compiled steps run on wrappers": (
        "compiler/compile.py",
        "if peek_interpreter_stack() is not None:", "if False:", "population",
    ),
    "a copy takes the ink": (
        "compiler/passes/views.py", "if not _is_written_to(node):", "if node.users:", "views",
    ),
    "views that the compiler cannot make": (
        "compiler/passes/views.py", "node.target = aten.reshape.default", "pass", "donation",
    ),
    # measures
    "W-divergence counts its penalty twice": (
        "measures.py", "(at_real + at_fake) / 2", "(at_real + at_fake)", "oracles",
    ),
}  # fmt: skip
