# `vagrant provision` upgrades in place: as `vagrant up` does, it first awaits the machine's ssh, and then brings its copy
# of the checkout up to date.

module Podwire
  class UpgradePlugin < Vagrant.plugin("2")
    name "podwire_upgrade"

    action_hook(:podwire_upgrade, :machine_action_provision) do |hook|
      hook.before(Vagrant::Action::Builtin::Provision, Vagrant::Action::Builtin::WaitForCommunicator)
      # Both do their part after what follows them: the folders, then the provisioning.
      hook.after(Vagrant::Action::Builtin::Provision, Vagrant::Action::Builtin::SyncedFolders)
    end
  end
end
