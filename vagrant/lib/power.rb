# `vagrant halt --force` takes a machine's power away, as it says. vagrant-libvirt would first ask the guest to shut down, and
# wait for that as long as it does without --force.

module Podwire
  class PowerPlugin < Vagrant.plugin("2")
    name "podwire_power"

    action_hook(:podwire_power, :machine_action_halt) { |hook| hook.prepend(NoGrace) }
  end

  class NoGrace
    def initialize(app, _env)
      @app = app
    end

    def call(env)
      env[:machine].config.vm.graceful_halt_timeout = 0 if env[:force_halt]
      @app.call(env)
    end
  end
end
