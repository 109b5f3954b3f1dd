"""The breaks that `mutants.py` makes, by name."""

from typing import NamedTuple

LOSS, PENALTY, ROUND = "properties_losses", "properties_penalties", "twins step"


class Break(NamedTuple):
    """One change of the code that a test has to notice.

    where: the function, class or module of fgan whose text is changed, by as much of its name as
        tells it apart: "gradient_norms", "Program.__call__", "penalties.interpolate". The file
        need not be named, so a break survives a move from file to file.
    old: a piece of that text, which is there exactly once. Spaces and line breaks are not compared.
    new: what then stands in its place.
    tests: the test files that should notice, by name without test_ and .py, whatever their folder.
    """

    where: str
    old: str
    new: str
    tests: str


BREAKS = {
    # the files of a run
    "the checkpoint before its picture": Break(
        "Records.save",
        """save_samples(path, samples, labels, self._data)
            self._history.save(state, done)""",
        "self._history.save(state, done); "
        "save_samples(path, samples, labels, self._data)",
        "durable resume",
    ),
    "figures not on the disk before the checkpoint": Break(
        "Records.save", "self._metrics.on_samples(done, samples, labels, None)", "pass", "durable",
    ),
    "a name before its content": Break(
        "replacing", "os.fsync(file.fileno())", "pass", "durable",
    ),
    "a folder that is not locked": Break(
        "lock._locked", "fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", "durable",
    ),
    "a damaged checkpoint kept as the one before": Break(
        "History.load", "state, self.latest_is_whole = load_latest(self._folder, like)",
        "state, _ = load_latest(self._folder, like); self.latest_is_whole = True", "resume",
    ),
    "the best checkpoint by the largest score": Break(
        "Best.offer", "score < self._score", "score > self._score", "evaluate_every",
    ),
    "the best of a lost continuation kept": Break(
        "Best.__init__", "kept > done", "kept < 0", "evaluate_every",
    ),
    "a crash before the best has its name": Break(
        "Best.__init__", "if is_whole and done in scores:", "if False:", "evaluate_every",
    ),
    "an evaluation that is logged and not saved": Break(
        "run.loop.train", "if done % every == 0 or last or evaluated:",
        "if done % every == 0 or last:", "evaluate_every",
    ),
    "a second SIGTERM that cuts": Break(
        "interruptible.ask", "signal.signal(signal.SIGINT, before[signal.SIGINT])",
        "signal.signal(signum, before[signum])", "signals",
    ),
    # losses
    "sign of the Wasserstein loss swapped": Break(
        "wasserstein_critic_loss", "return fake_scores - real_scores",
        "return real_scores - fake_scores", LOSS,
    ),
    "minimax is the non-saturating loss": Break(
        "minimax_generator_loss", "return -softplus(fake_scores)", "return softplus(-fake_scores)",
        LOSS,
    ),
    "log of a sigmoid with an epsilon": Break(
        "minimax_critic_loss", "return softplus(-real_scores) + softplus(fake_scores)",
        "return -torch.log(torch.sigmoid(real_scores) + 1e-8) + softplus(fake_scores)", LOSS,
    ),
    "hinge without its margin": Break(
        "hinge_critic_loss", "relu(1 - real_scores)", "relu(-real_scores)", LOSS,
    ),
    "relativistic loss against the batch's mean": Break(
        "relativistic_critic_loss", "return softplus(fake_scores - real_scores)",
        "return softplus(fake_scores - real_scores.mean())", LOSS,
    ),
    "least squares with targets swapped": Break(
        "least_squares_critic_loss", "torch.square(real_scores - 1) + torch.square(fake_scores)",
        "torch.square(real_scores) + torch.square(fake_scores - 1)", LOSS,
    ),
    # penalties
    "norm over the wrong axis": Break(
        "square_norms", "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=1)",
        "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=0)", PENALTY,
    ),
    "one norm for the whole batch": Break(
        "square_norms", "torch.square(gradients.reshape(gradients.shape[0], -1)).sum(dim=1)",
        "torch.square(gradients).sum().expand(gradients.shape[0])", PENALTY,
    ),
    "square root of a sum of squares": Break(
        "gradient_norms", "torch.where(zero, 0.0, torch.where(zero, 1.0, squares).sqrt())",
        "squares.sqrt()", PENALTY,
    ),
    "penalty detached": Break(
        "input_gradients", "return vmap(grad(score))(x, *conditions)",
        "return vmap(grad(score))(x, *conditions).detach()", PENALTY,
    ),
    "one-sided for two-sided": Break(
        "gradient_penalty", "torch.relu(excess) if one_sided else excess", "torch.relu(excess)",
        PENALTY,
    ),
    "two-sided for one-sided": Break(
        "gradient_penalty", "torch.relu(excess) if one_sided else excess", "excess", PENALTY,
    ),
    "target forgotten": Break(
        "gradient_penalty", "excess = norms - tree.like(target, norms)", "excess = norms", PENALTY,
    ),
    "p for p/2: squared norms to the power p": Break(
        "w_divergence_penalty", "half = tree.like(p, squares) / 2", "half = tree.like(p, squares)",
        PENALTY,
    ),
    "power rule at a zero gradient": Break(
        "w_divergence_penalty", "torch.where(zero, 1.0, squares) ** half", "squares**half", PENALTY,
    ),
    "no curvature at a zero gradient": Break(
        "w_divergence_penalty", "squares * (half == 1)", "0.0", PENALTY,
    ),
    "k forgotten": Break(
        "w_divergence_penalty", "return tree.like(k, squares) *", "return", PENALTY,
    ),
    "zero-centred penalty not squared": Break(
        "zero_centered_penalty", "square_norms(gradients(", "gradient_norms(gradients(", PENALTY,
    ),
    "half-precision penalty": Break(
        "square_norms", "gradients = gradients.float()", "pass", PENALTY,
    ),
    "conditions zeroed in the penalty": Break(
        "input_gradients.score", "c[None] for c in condition", "c[None] * 0 for c in condition",
        PENALTY,
    ),
    # points
    "one epsilon for the batch": Break(
        "_interpolate", "mix = mix.reshape(-1, *[1] * (real.ndim - 1))",
        "mix = mix[:1].reshape(-1, *[1] * (real.ndim - 1))", "properties_points",
    ),
    "real and fake swapped in the interpolate": Break(
        "_interpolate", "return mix * real + (1 - mix) * fake",
        "return mix * fake + (1 - mix) * real", "properties_points",
    ),
    "partners of another condition": Break(
        "partners", "steps = torch.where(same, steps, size)", "pass", "properties_points",
    ),
    "both places are real samples": Break(
        "_at_both", "return Points(torch.cat([real, fake])",
        "return Points(torch.cat([real, real])", "properties_points",
    ),
    # projection
    "clamp in place": Break(
        "recipes.clip", "return param.clamp(-limit, limit)", "return param.clamp_(-limit, limit)",
        "properties_points",
    ),
    "clamp on one side": Break(
        "recipes.clip", "return param.clamp(-limit, limit)", "return param.clamp(max=limit)",
        "properties_points",
    ),
    "real and fake in one pass for every critic": Break(
        "adversarial.objective", "if one_pass:", "if True:", ROUND,
    ),
    "clamp before the update": Break(
        "apply_critic",
        "params, opt_state = game.critic.optimizer.update(gradient.params, opt_state, params)\n"
        "if game.project is not None:\n"
        "    params = game.project(params, state.round)",
        "if game.project is not None:\n"
        "    params = game.project(params, state.round)\n"
        "params, opt_state = game.critic.optimizer.update(gradient.params, opt_state, params)",
        ROUND,
    ),
    # the round
    "one critic update too few": Break(
        "game.step", "for i in range(updates):", "for i in range(max(1, updates - 1)):", ROUND,
    ),
    "every update sees the first batch": Break(
        "game.step", "batch.real[i],", "batch.real[0],", ROUND,
    ),
    "fakes made under other labels": Break(
        "game._critic_update", "fake = parts.fakes(state, latent, condition)",
        "fake = parts.fakes(state, latent, condition if condition is None else condition.roll(1))",
        "properties_recipes",
    ),
    "generator scored under the first labels": Break(
        "_generator_inputs", "_last(batch.condition, size)", "batch.condition[0]", ROUND,
    ),
    "fakes in evaluation mode": Break(
        "game.fakes", "(params, buffers, latent, *conditions)",
        "(params, buffers, latent, *conditions, training=False)", ROUND,
    ),
    "penalty taken at the wrong weight": Break(
        "_add_penalties", "(weight * term.every if term.every > 1 else weight) * value", "value",
        ROUND,
    ),
    "buffers of the fake pass kept": Break(
        "adversarial.objective", "fake_scores, fake_outputs, _ = scores_at(fake, *conditions)",
        "fake_scores, fake_outputs, buffers = scores_at(fake, *conditions)", ROUND,
    ),
    "critic's buffers never move": Break(
        "apply_critic", "PlayerState(params, gradient.buffers, opt_state)",
        "PlayerState(params, state.critic.buffers, opt_state)", ROUND,
    ),
    "fakes detached in the generator's update": Break(
        "generator_gradient.objective", "game.generator_objective.function(critic, fake, data)",
        "game.generator_objective.function(critic, fake.detach(), data)", ROUND,
    ),
    "simultaneous updates alternate": Break(
        "game.step", "state = GANState(ahead.generator, state.critic, ahead.ema, ahead.round)",
        "state, generator_info = update_generator(state, *of_last)", ROUND,
    ),
    "EMA lags a round": Break(
        "game.apply_generator", "tree.lerp(ema.params, params, 1 - decay)",
        "tree.lerp(ema.params, state.generator.params, 1 - decay)", ROUND,
    ),
    "EMA with decay reversed": Break(
        "game.apply_generator", "tree.lerp(ema.params, params, 1 - decay)",
        "tree.lerp(ema.params, params, decay)", ROUND,
    ),
    "samples without the EMA": Break(
        "algorithm.generate", "kept = state.ema if isinstance(state.ema, EMA) else state.generator",
        "kept = state.generator", ROUND,
    ),
    "latest running statistics beside the averaged weights": Break(
        "game.apply_generator", "if name in game.averaged", "if False", "average",
    ),
    "every buffer averaged": Break(
        "game.apply_generator", "if name in game.averaged", "if buffer.is_floating_point()",
        "average",
    ),
    "rounds not counted": Break(
        "game.apply_generator", "state.round + 1", "state.round", ROUND,
    ),
    "noise the same in every round": Break(
        "noise.noise", "mix_seed(seed, _NOISE, round_index, *block.seed) for",
        "mix_seed(seed, _NOISE, *block.seed) for", ROUND,
    ),
    # networks
    "buffers mutated": Break(
        "make_functional.apply", "key: buffer.clone() for key, buffer in buffers.items()",
        "key: buffer for key, buffer in buffers.items()", "network step",
    ),
    "evaluation mode ignored": Break(
        "make_functional.apply", "if autocast is None: output = functional_call(copies[training]",
        "if autocast is None: output = functional_call(copies[True]", "network",
    ),
    "autocast ignored": Break(
        "make_functional.apply", "if autocast is None:", "if True:", "autocast",
    ),
    "convolutions under vmap without autocast": Break(
        "AutocastUnderVmap.__torch_function__", "if func in _CONVOLUTIONS and", "if False and",
        "autocast",
    ),
    "tagged operations taken for draws": Break(
        "_DrawingOperations.__torch_dispatch__", "if not all(map(torch.equal, before, after)):",
        "if True:", "randomness",
    ),
    "draws of Python and NumPy not found": Break(
        "find_randomness", "if operations.names or drawn:", "if operations.names:", "randomness",
    ),
    "draws of other generators not found": Break(
        "find_randomness", 'return "" if _agree(*outputs) else', 'return "" if True else',
        "randomness",
    ),
    "global generators advanced by the check": Break(
        "randomness._restored", "random.setstate(python)", "pass", "randomness",
    ),
    "detached batch statistics not found": Break(
        "per_sample.check_batch_independent", "_check_values(scores, samples)", "pass",
        "testing_critics",
    ),
    "labels not checked under grad": Break(
        "_readable", "while functorch.is_gradtrackingtensor(x):", "while False:", "model_inputs",
    ),
    "missing real scores taken from the fakes": Break(
        "adversarial_generator.objective", "real_scores = torch.full_like(fake_scores, torch.nan)",
        "real_scores = fake_scores", "errors",
    ),
    # augmentations
    "one shift for the batch": Break(
        "augment.translate", "_rows(shift, samples)", "_rows(shift, samples)[:1]", "augment",
    ),
    "shifts to one side only": Break(
        "augment.translate", "_whole(column, 2 * most + 1) - most", "_whole(column, most + 1)",
        "augment",
    ),
    "real and fake under different augmentations": Break(
        "for_rows", "torch.cat([noise] * times) if", "torch.cat([noise, 1 - noise]) if",
        "augment",
    ),
    "a generator without augmentation": Break(
        "make_algorithm", "generator_objective = augmented(generator_objective, augmentation)",
        "pass", "augment",
    ),
    # example networks
    "class scales that start at zero": Break(
        "ConditionalBatchNorm.__init__", "torch.ones(num_classes, channels)",
        "torch.zeros(num_classes, channels)", "conditioning",
    ),
    "projection without the unconditional part": Break(
        "Critic.forward", "scores + (self.embed(label) * features).sum(dim=1)",
        "(self.embed(label) * features).sum(dim=1)", "conditioning",
    ),
    "attention normalised over the wrong positions": Break(
        "SelfAttention.forward", "dim=-1)", "dim=-2)", "attention",
    ),
    "odd sizes cut at the front": Break(
        "blocks.cut", "slice(n) for n in size", "slice(-n, None) for n in size", "any_size",
    ),
    "odd sizes lose their last position": Break(
        "MeanPool.forward", "x = torch.cat([x, x[:, :, -1:]], dim=2)", "x = x[:, :, :-1]",
        "any_size",
    ),
    # recipes beyond the Wasserstein line
    "DRAGAN's points all at the full distance": Break(
        "penalties.perturb", "real + mix * spread *", "real + spread *", "twins",
    ),
    "DRAGAN's scale from each sample alone": Break(
        "penalties.perturb", "real.std(correction=0)",
        "real.std(dim=[*range(1, real.ndim)], keepdim=True, correction=0)", "twins",
    ),
    "R1 of the GAN with its full weight": Break(
        "recipes.gan", "_half(gamma)", "gamma", "twins objectives",
    ),
    "R3GAN without R2": Break("recipes.r3gan", '"real_and_fake"', '"real"', "twins"),
    "hinge distance twice as fast": Break(
        "recipes.hinge_gan", "1 - critic_loss / 2", "1 - critic_loss", "twins",
    ),
    # optimisers
    "bias correction of the mean dropped": Break(
        "_adam.update", "step_size / _correction(beta1, count)", "step_size * 1", "optim",
    ),
    "bias correction of the square dropped": Break(
        "_adam.update", "torch.sqrt(_correction(beta2, count))", "torch.ones_like(count)",
        "optim",
    ),
    "epsilon inside the root": Break(
        "rmsprop.update", "g / (v.sqrt() + least)", "g / (v + least).sqrt()", "optim",
    ),
    "momentum damped": Break(
        "sgd.update", "decay * m + g", "decay * m + (1 - decay) * g", "optim",
    ),
    "float64 on every device": Break(
        "_adam", "count = widest(state.updates + 1)", "count = (state.updates + 1).double()",
        "devices",
    ),
    "a schedule in float64 on every device": Break(
        "scalars.linear", "widest(count) / steps", "count.double() / steps", "devices",
    ),
    "a correction of Adam in the digits of float32": Break(
        "optim._correction", "count.dtype == torch.float64", "True", "durable",
    ),
    # compiled rounds
    "programs cached by shapes alone": Break(
        "_append_signature", "key += (type(node), structure)", "key += (type(node),)",
        "compiled_step",
    ),
    "overlapping memory accepted for donation": Break(
        "_check_memory", "any(end > begin for (_, end), (begin, _) in pairwise(ranges))", "False",
        "donation",
    ),
    "expanded tensor accepted for donation": Break(
        "_check_memory", "any(map(_overlaps_itself, tensors))", "False", "donation",
    ),
    "leaf read after it was overwritten": Break(
        "copy_before_overwrite", "if value is not target and", "if False and", "donation",
    ),
    "a round that raises loses the donated state": Break(
        "_donated_round", "if self._writes_started() == writes:", "if False:", "donation",
    ),
    "merged batch axes taken for a flatten": Break(
        "realize_before_flatten", "and have.shape[0] == want.shape[0]", "",
        "realize_before_flatten",
    ),
    "scaled addmm split": Break(
        "unfuse_addmm", "if node.kwargs or", "if", "unfuse_addmm",
    ),
    "skinny matmul transposed, and not back": Break(
        "transpose_skinny_matmul", "aten.permute.default, matmul, axes",
        "aten.reshape.default, matmul, [*node.meta['val'].shape]", "transpose_skinny_matmul",
    ),
    "oneDNN on Intel too": Break(
        "onednn_linear.is_faster", '.startswith("Intel")', '.startswith("?")', "onednn_linear",
    ),
    "any addend of a matmul taken for a bias": Break(
        "onednn_linear._replace", 'and term.meta["val"].shape == node.meta["val"].shape[1:]', "",
        "onednn_linear",
    ),
    "shifts of a transposed convolution reversed": Break(
        "phase", "(t - y - p) // s for", "(y + p - t) // s for", "conv_transpose_to_gemm",
    ),
    "gradient with respect to the image computed twice": Break(
        "_replace_backward", "[False, *mask[1:]]", "mask", "conv_transpose_to_gemm",
    ),
    "stride and dilation of a weight gradient exchanged": Break(
        "conv_to_weight_gradient", "dilation, padding, stride, False",
        "stride, padding, dilation, False", "conv_weight_gradient",
    ),
    "row scaling propagated through a broadcast": Break(
        "_multiple", "value.ndim != rank", "False", "row_scaled_cse",
    ),
    "row scaling propagated through a nonlinear operation": Break(
        "_multiple", "else: return None", "else: bases.append(argument)",
        "row_scaled_cse",
    ),
    "row scaling of the wrong operand of a weight's gradient": Break(
        "_merge_matmuls", "aten.add.Tensor, scaled, u", "aten.add.Tensor, scaled, a",
        "row_scaled_cse",
    ),
    "one ε per feature taken for an interpolation": Break(
        "_weights_of_sum", "and per_sample else", "else", "linear_of_interpolation",
    ),
    "labels of an interpolation not compared": Break(
        "_is_repeated", "(_source(row.args[0]), row.args[1]) == (once, 0)", "row.args[1] == 0",
        "linear_of_interpolation",
    ),
    "dependent matmuls fused": Break(
        "_fusible", "_ancestors(node).isdisjoint(group)", "True", "horizontal_gemm_fusion",
    ),
    "outputs of a graph made parts of one tensor": Break(
        "fuse_gemms_horizontally", "if _is_linear(node) and not is_returned(node):",
        "if _is_linear(node):", "horizontal_gemm_fusion",
    ),
    "operands of a fused sum in another order": Break(
        "k_concatenated_gemm._replace", "rights.reverse()", "pass", "horizontal_gemm_fusion",
    ),
    "tensors of a CUDA graph returned without a copy": Break(
        "cuda_graphs._launch", "return info", "return captured.info", "cuda_graphs",
    ),
    "labels out of range in compiled rounds": Break(
        "compile._round", "_check_labels(batch, num_classes)", "pass", "compiled_step",
    ),
    "a process captures a CUDA graph by itself": Break(
        "CUDAGraphedStep.__init__", "agree or int", "int", "cuda_graphs",
    ),
    "a compiled data-parallel step asks nobody": Break(
        "CompiledStep.__init__", "agree=algorithm.agree", "agree=None", "group_of_one",
    ),
    "captured where one process can": Break(
        "collectives.agreement", "dist.ReduceOp.MIN", "dist.ReduceOp.MAX", "data_parallel",
    ),
    "figures read that no watchdog sees": Break(
        "SharedRecords.log", "self._watch(info)", "pass", "group_of_one",
    ),
    "the watchdog sees nothing": Break(
        "Several.watch", "dist.all_reduce(torch.zeros(1, device=device))", "pass", "group_of_one",
    ),
    "CUDA graph launched for another state": Break(
        "expect_state", "if addresses != self._state_addresses:", "if not self._state_addresses:",
        "cuda_graphs",
    ),
    "CUDA graph keeps the old value of a CPU tensor": Break(
        "CUDAGraphedStep._valid", "or captured.host_values != self._host_values()", "",
        "cuda_graphs",
    ),
    "closed-over tensors compiled as constants": Break(
        "lift_closed_over", "or _is_literal(node)", "or True", "programs",
    ),
    "random numbers drawn in a compiled round": Break(
        "refuse_randomness", "if _is_random(node):", "if False:", "programs",
    ),
    "disabled passes run": Break(
        "passes_of", "and each.name not in skipped", "", "pass_table",
    ),
    "disabled passes share the cache of enabled ones": Break(
        "PassManager.uuid", "[each.name for each in self._passes]", "[]", "pass_table",
    ),
    "simultaneous critic reads the new count of rounds": Break(
        "CompiledStep._generator_update", "round=state.round.clone()", "round=state.round",
        "donation",
    ),
    # populations
    "every member has the first value": Break(
        "population.of_one", "self._build(value)", "self._single", "population",
    ),
    "members' algorithms built twice in a round": Break(
        "population.step", "return made",
        'return self._each("step", 0, None, axes)(state, batch, noise)', "population",
    ),
    "members' axis of the noise in the wrong place": Break(
        "population.noise", "(x.movedim(0, 1).contiguous() for x in", "(x for x in", "population",
    ),
    "compiled step runs within vmap": Break(
        "CompiledStep.__call__", "if self._peek_transforms() is not None:", "if False:",
        "population",
    ),
    "a view that is written into becomes a copy": Break(
        "view_to_reshape", "if not _is_written_to(node):", "if node.users:", "view_to_reshape",
    ),
    "views that the compiler rejects": Break(
        "view_to_reshape", "node.target = aten.reshape.default", "pass", "compiled_step",
    ),
    # numbers that are not finite
    "guard looks at the loss alone": Break(
        "_is_nonfinite", "(loss, *gradient.params.values())", "(loss,)", "nonfinite",
    ),
    "guard looks at the gradient alone": Break(
        "_is_nonfinite", "(loss, *gradient.params.values())", "gradient.params.values()",
        "nonfinite",
    ),
    "guard does not see new buffers": Break(
        "_is_nonfinite", "if new.is_floating_point():", "if False:", "nonfinite",
    ),
    "guard blames an attention mask": Break(
        "_is_nonfinite", "| ~torch.isfinite(buffers[key])", "", "nonfinite",
    ),
    "guard lets the EMA move": Break(
        "apply_to_generator", "tree.map(choose, state.ema, new.ema)", "new.ema", "nonfinite",
    ),
    "guard forgets what it has skipped": Break(
        "nonfinite._kept", "before.skipped + skip", "before.skipped", "nonfinite",
    ),
    "replay blames the last operation for the first one": Break(
        "Watch.__torch_dispatch__", "min(sources) if sources else", "", "replay",
    ),
    "replay goes on from a state that is not finite": Break(
        "_state_before", "if bad := not_finite(state, since=initial):", "if bad := []:", "replay",
    ),
    "replay reads the batches of another round": Break(
        "replay.replay", "conditional, start=start", "conditional, start=0", "replay",
    ),
    "replay names the forward layer in a backward pass": Break(
        "Watch._new", "self.layers.entered if is_backward else self.layers.current",
        "self.layers.current", "replay",
    ),
    "replay takes the penalty for a forward pass": Break(
        "Watch._new", '"penalty" if is_penalty else', "", "replay",
    ),
    # data and configurations
    "EXIF orientation ignored": Break(
        "picture_files._upright", "return image if turn is None else image.transpose(turn)",
        "return image", "folders",
    ),
    "hidden colours of transparent pixels": Break(
        "picture_files._opaque", "if image.has_transparency_data:", "if False:", "folders",
    ),
    "hidden files are pictures": Break(
        "folders._walk", 'if name.startswith("."):', "if False:", "folders",
    ),
    "an idx file is read to its end": Break(
        "read_idx", "_read_at_most(file.read, announced + 1)", "bytearray(file.read())", "content",
    ),
    "numbers beyond float32 accepted": Break(
        "data_set._check_finite", "most = torch.finfo(torch.float32).max",
        "most = torch.finfo(torch.float64).max", "content",
    ),
    "the order of samples left out of the fingerprint": Break(
        "fingerprint", "known.update(_bytes(labels))", "pass", "content",
    ),
    "swapped classes accepted at resume": Break(
        "same_data.check",
        "if not known.contents or not data.contents or known.contents == data.contents:",
        "if known.class_counts == data.class_counts:", "same_data",
    ),
    "the same images mirrored in every round": Break(
        "Rounds._flips", "mix_seed(self._seed, _FLIPPING, index)",
        "mix_seed(self._seed, _FLIPPING)", "conditions",
    ),
    "the first batch of a loader lost": Break(
        "iterables.Batches", "self._items = itertools.chain([first], self._items)", "pass",
        "iterables",
    ),
    "short batches kept": Break(
        "Batches._fits", "return rows == self.batch_size", "return True", "iterables",
    ),
    "a resumed loader begins anew": Break(
        "Batches.resume", "self._skip(updates)", "pass", "iterables own_data",
    ),
    "positions of another checkpoint": Break(
        "positions.save", "kept = dict(sorted(known.items())[-(keep + 1) :]) | {done: position}",
        "kept = dict.fromkeys([*known, done], position)", "own_data",
    ),
    "a state's rounds are counted on": Break(
        "start.started", "._replace(round=tree.clone(like.round))", "", "own_data",
    ),
    "a given state shares its memory with the run": Break(
        "start.started", "a.detach().clone().to(b.device)", "a.to(b.device)", "own_data",
    ),
    "a mapped file read after its pictures have changed": Break(
        "mapped._key", r'+ f"\0{found.st_size} {found.st_mtime_ns}\0".encode()', "", "folders",
    ),
    "booleans accepted as whole numbers": Break(
        "settings._is_of", "return type(value) is kind",
        "return isinstance(value, kind)", "hostile",
    ),
    "a new default for old configurations": Break(
        "settings.Config", '"none", "WAY", f"of both rates', '"linear", "WAY", f"of both rates',
        "configuration",
    ),
    "a file of settings wins over flags": Break(
        "flags.merged", "content | given", "given | content", "configuration",
    ),
    "rates of the players in a file beside a flag for both": Break(
        "flags.merged", 'if "lr" in given:', "if False:", "configuration",
    ),
    "a preset wins over flags": Break(
        "presets.minutes", "chosen |= given", "chosen = given | chosen", "configuration",
    ),
    "the paper's preset at the quick rate": Break(
        "presets.paper", '"lr": RECIPES[recipe].lr', '"lr": None', "configuration",
    ),
    "the critic's rate falls by rounds": Break(
        "build._decayed", "first_round * updates, config.rounds * updates",
        "first_round, config.rounds", "configuration",
    ),
    "the rates of the players swapped": Break(
        "build._settings", "config.lr_generator, 1", "config.lr_critic, 1", "configuration",
    ),
    "warm-up not counted by the decay": Break(
        "build._decayed", "sum(map(updates, range(first_round)))", "5 * first_round",
        "configuration",
    ),
    "old runs compile by themselves": Break(
        "compiling.decided", "is_new and device.type", "device.type", "configuration",
    ),
    "any error ends compiling": Break(
        "compiled_if_possible", "or no_compiler(error) is None", "", "cli",
    ),
    "a dry run leaves the folder of another run unseen": Break(
        "try_round", "History(out, 0)", "False", "cli",
    ),
    "a command line that mirrors nothing": Break(
        "train_command", "flip=config.flip", "flip=False", "own_images",
    ),
    "a replay without the mirrored images": Break(
        "replay_run", "flip=config.flip", "flip=False", "own_images",
    ),
    "weights drawn where a state is given": Break(
        "loop.train", "seed if state is None and not resume else None", "seed", "own_data",
    ),
    "weights of another run without its average": Break(
        "state_from", "if name.startswith(_AVERAGE) and name not in found:",
        "if name.startswith(_AVERAGE):", "init_from",
    ),
    "a tracker's run begun anew at resume": Break(
        "named_loggers._begun", "if resume and known.is_file():", "if False:", "named_loggers",
    ),
    "a tracker told of a run that is refused": Break(
        "named_loggers.opened", "if openers and not resume and History(out, 0):", "if False:",
        "named_loggers",
    ),
    # several processes
    "gradients of the processes added up": Break(
        "distributed._mean_of", ".to(dtype) / group.size", ".to(dtype)", "data_parallel",
    ),
    "each process goes on with its own figures": Break(
        "distributed.mean", "figures = tree.map(torch.clone, info)",
        "figures = tree.map(torch.clone, gradient.info)", "data_parallel",
    ),
    "zeros of a frozen value lose their sign": Break(
        "_changed", "torch.where(change == 0, old, old + change)", "old + change",
        "data_parallel",
    ),
    "infinite buffers subtracted": Break(
        "_change", "torch.where(new == old, 0, new - old)", "new - old", "data_parallel",
    ),
    "sum in the narrowest dtype": Break(
        "distributed._mean_of", "dtype = torch.promote_types(dtype, leaves[i].dtype)", "pass",
        "group_of_one",
    ),
    "figures that hold all gradients": Break(
        "distributed.mean", "tree.map(torch.clone, info)", "info", "group_of_one",
    ),
    "every process begins with its own state": Break(
        "distributed.data_parallel.init", "dist.broadcast(leaf, group=group, group_src=0)", "pass",
        "data_parallel",
    ),
    "a sum that passes gradients on as they are": Break(
        "_Total.backward", "_Total.apply(gradients[0], ctx.group), None", "gradients[0], None",
        "data_parallel",
    ),
    "vmap without a rule for the sum": Break(
        "collectives.group_of", "_register_vmap()", "pass", "data_parallel",
    ),
    "noise of a rank by every n-th sample": Break(
        "part_of", "slice(rank * part, (rank + 1) * part)", "slice(rank, batch_size, size)",
        "shares",
    ),
    "latents of a larger batch by blocks": Break(
        "noise._in_order", "chain.from_iterable(zip_longest(*blocks))",
        "chain.from_iterable(blocks)", "shares",
    ),
    "a share of the noise keeps the whole": Break(
        "noise._own", "x[:, block.own].clone()", "x[:, block.own]", "shares",
    ),
    "blocks of the noise with one seed": Break(
        "noise.noise", ", *block.seed", "", "shares",
    ),
    "every rank measures all samples": Break(
        "gathering.gathered", "has_parts = count >= size", "has_parts = False", "ranks",
    ),
    "rank 0 evaluates alone": Break(
        "Evaluations.__init__", "ranks.size > 1 and", "False and", "ranks",
    ),
    "every rank draws the whole noise": Break(
        "noise._blocks", "range(part.start - part.start % BLOCK, part.stop, BLOCK)",
        "range(0, batch_size, BLOCK)", "shares",
    ),
    "every rank raises its own error of an evaluation": Break(
        "gathering._raise_in_all", "error is not None and sender == rank", "error is not None",
        "ranks",
    ),
    "BatchNorm by the mean of the processes' variances": Break(
        "SynchronizedBatchNorm.forward", "mean = total(x.sum(axes), self.group) / count",
        "mean = x.sum(axes) / count * self.group.size", "data_parallel",
    ),
    "running variance without Bessel's correction": Break(
        "SynchronizedBatchNorm.forward", "* (count / max(count - 1, 1))", "", "group_of_one",
    ),
    "penalties that pair samples taken in parts": Break(
        "check_no_whole_batch", "if whole_batch:", "if False:", "group_of_one",
    ),
    "buffers in bfloat16 too": Break(
        "distributed.mean", "changes, info = _mean_of((changes, gradient.info), group)",
        "changes, info = _mean_of((changes, gradient.info), group, wire_dtype)", "data_parallel",
    ),
    "a checksum of the values in any order": Break(
        "ranks.checksum", "numbers * (odd * 0x2545F4914F6CDD1D)", "numbers", "group_of_one",
    ),
    "states that differ unseen": Break(
        "Several.check_same", "(other != every[0])", "(other != other)", "ranks",
    ),
    "a run stops when all ranks are asked to": Break(
        "Several._begin", "dist.ReduceOp.MAX", "dist.ReduceOp.MIN", "ranks",
    ),
    "an error told by every rank": Break(
        "is_reported_elsewhere", "return rank > 0 if reported is None else reported",
        "return False", "ranks",
    ),
    "every rank trains on the whole batch": Break(
        "loop._batches", "share=algorithm.share,", "share=None,", "ranks",
    ),
    "a restart goes on with any run": Break(
        "Run.is_begun", "return replace(known, data=None) == same", "return True", "ranks",
    ),
    "a restart meets processes that have ended": Break(
        "torchrun._make_group", 'f"fgan/{restarts}/{size}"', 'f"fgan/{size}"', "torchrun",
    ),
    # measures
    "W-divergence counts its penalty twice": Break(
        "w_divergence", "(at_real + at_fake) / 2", "(at_real + at_fake)", "oracles",
    ),
    # evaluation
    "means forgotten in the Fréchet distance": Break(
        "gaussian_distance", "(squared + covariance_a.trace()", "(covariance_a.trace()",
        "distances",
    ),
    "root of the product instead of the product of roots": Break(
        "gaussian_distance", "square_root(covariance_a) @ square_root(covariance_b)",
        "square_root(covariance_a @ covariance_b)", "distances",
    ),
    "biased kernel distance": Break(
        "_mean_off_diagonal",
        "(kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))", "kernel.mean()",
        "distances",
    ),
    "kernel of degree two": Break("_cubic_kernel", "** 3", "** 2", "distances"),
    "a sample is its own nearest neighbour": Break(
        "_in_balls", "nearest[:, k, None]", "nearest[:, k - 1, None]", "neighbours",
    ),
    "precision and recall exchanged": Break(
        "precision_recall", "PrecisionRecall(_mean(balls.held > 0), _mean(reached.held > 0))",
        "PrecisionRecall(_mean(reached.held > 0), _mean(balls.held > 0))", "neighbours",
    ),
    "both sets resampled alike": Break(
        "bootstrap", 'torch.randint(len(each), (len(each),), generator=source, device="cpu")',
        "torch.randint(len(each), (len(each),), generator=generator(seed, _))", "points",
    ),
    "any features are called Inception's": Break(
        "Features.is_inception", "self.name == INCEPTION", "True", "trained",
    ),
    "label accuracy of the real labels": Break(
        "_by_class", "(seen == fake).double()", "(seen == seen).double()", "trained",
    ),
    "an evaluator whose classes are those seen": Break(
        "Evaluator._measure", "(seen == labels.to(seen.device))", "(seen == seen)", "evaluator",
    ),
    "feature network in training mode": Break(
        "module_features", "copy.deepcopy(module).eval()", "copy.deepcopy(module)", "features",
    ),
    "classifier is kept by its name alone": Break(
        "_fingerprint", "digest.update(tensor.cpu().numpy().tobytes())", "pass", "evaluate",
    ),

    "patches standardised each by its own mean": Break(
        "patch_distances", "(patches - mean) / std",
        "(patches - patches.mean((0, 2, 3), True)) / std", "patches",
    ),
    "an image enlarged to a quarter of its brightness": Break(
        "enlarged", "4 * _smooth(wide)", "_smooth(wide)", "patches",
    ),
    # what a run leaves behind
    "a loaded generator without the EMA": Break(
        "trained._trained", "state.ema if isinstance(state.ema, EMA) else state.generator",
        "state.generator", "load",
    ),
    "a loaded network in training mode": Break(
        "trained._trained", "fill(copied(module, str(device)), params | buffers).eval()",
        "fill(copied(module, str(device)), params | buffers).train()", "load",
    ),
    "truncation by clamping": Break(
        "truncated", "torch.copysign(moved, wide)",
        "wide.clamp(-limit, limit)", "load",
    ),
    "a straight line between latents": Break(
        "interpolated", "is_flat = angle.sin() < 1e-6", "is_flat = angle.sin() < 9", "load",
    ),
    "an exported file that nothing checks": Break(
        "_check_equal", "not difference <= limit", "False", "export",
    ),
    "a graph for one batch size": Break(
        "export._dynamic", 'batch = {0: torch.export.Dim("batch")}', "batch = {}", "export",
    ),
    "the rest of the loggers not told of the end": Break(
        "Records.end", "stack.callback(logger.on_end, self._done)", "logger.on_end(self._done)",
        "loggers",
    ),
    "an average that stands still at first": Break(
        "build._average", "if limit is None or not config.ema_warmup:", "if True:",
        "configuration",
    ),
    "no word of what has no picture before sampling": Break(
        "_check_pictures", "if together and not has_picture(shape):", "if False:", "sampling",
    ),
    "one scale for channels of all units": Break(
        "plots._scales", "max(spans) > _UNLIKE * min(spans)", "False", "own_data",
    ),
    # networks as people have them
    "own penalties under the fused attention": Break(
        "objectives.adversarial", "for_penalties = twice_differentiable(score)",
        "for_penalties = score", "second_order",
    ),
    "latents of several axes in column order": Break(
        "of_flat_latents", "latent.reshape(latent.shape[0], *shape)",
        "latent.reshape(latent.shape[0], *shape[::-1]).transpose(1, -1)", "latents",
    ),
    "a term without its weight": Break(
        "adversarial_generator",
        'total = _add(total, term, value, data, figures, f"generator_{term.name}")',
        'total, figures[f"generator_{term.name}"] = total + value, value', "generator_terms",
    ),
    "noise of other samples": Break(
        "for_rows", "torch.cat([noise] * times) if times > 1",
        "noise.repeat_interleave(times, 0) if times > 1", "noisy",
    ),
    "dropout without its scale": Break(
        "NoiseDropout.forward", "(mask >= self.p).to(x.dtype) / (1 - self.p)",
        "(mask >= self.p).to(x.dtype)", "noisy",
    ),
}  # fmt: skip
