-- wrk: single submits, each with an idempotency key of its own as the client sends it; counts what was acknowledged

local threads = {}

function setup(thread)
   thread:set("number", #threads + 1)
   table.insert(threads, thread)
end

function init(args)
   sent, acknowledged, refused = 0, 0, 0
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
end

function request()
   sent = sent + 1
   local key = string.format("wrk-%d-%d", number, sent)
   return wrk.format(nil, "/submit-task", nil, '{"task_type": "noop", "task_data": {}, "idempotency_key": "' .. key .. '"}')
end

function response(status)
   if status == 201 then acknowledged = acknowledged + 1 else refused = refused + 1 end
end

function done(summary, latency)
   local all, wrong = 0, 0
   for _, thread in ipairs(threads) do
      all, wrong = all + thread:get("acknowledged"), wrong + thread:get("refused")
   end
   local errors = summary.errors
   io.write(string.format('\n{"acknowledged": %d, "refused": %d, "failed": %d, "seconds": %f, "p50_ms": %f, "p99_ms": %f, "max_ms": %f}\n',
      all, wrong, errors.connect + errors.read + errors.write + errors.timeout, summary.duration / 1e6,
      latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
