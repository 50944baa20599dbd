module github.com/slipwayhq/slipway/bench/peers/rig

go 1.26.0
